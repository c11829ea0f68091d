"""A model as it leaves: saved, read back, checked and scored on test data."""

from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float

from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.data import Examples
from fewshot_automl.errors import ExportError
from fewshot_automl.evaluation.calibration import apply_temperature
from fewshot_automl.evaluation.objectives import objective
from fewshot_automl.inputs import Input
from fewshot_automl.predictor import Predictor
from fewshot_automl.trial.workbench import Workbench

CHECKED: Final = 8
"""Labelled examples on which a saved model must agree with the one in memory."""
TOLERANCE: Final = 1e-4
"""Of a probability there, on a CPU."""
DEVICE_TOLERANCE: Final = 1e-2
"""Of a probability elsewhere: convolutions on a GPU keep 10 bits of a product, and
choose another algorithm for another batch."""
TEST_METRICS: Final = ("accuracy", "macro_f1", "log_loss")


def deliver(model: Predictor, folder: Path, workbench: Workbench) -> Predictor:
    """Save a model and return it as it is on disk.

    Args:
        model: Fitted on the workbench.
        folder: Where to.
        workbench: Knows the labelled examples, and what they are to its backbones.

    Raises:
        ExportError: If what was saved predicts something else.
    """
    loaded = Predictor.load(model.save(folder))
    inputs = workbench.problem.inputs
    places = np.unique(np.linspace(0, len(inputs) - 1, CHECKED).round().astype(int))
    few = tuple(inputs[place] for place in places)
    gap = np.abs(predicted(model, few, workbench) - loaded.predict_proba_of(few)).max()
    on_cpu = workbench.placement.device == "cpu"
    allowed = TOLERANCE if on_cpu else DEVICE_TOLERANCE
    if not gap <= allowed:
        raise ExportError(
            f"The model in {folder} must predict within {allowed:g} what it did before "
            f"it was saved, got a probability that is {gap:.2g} off. Please report it, "
            "with what fewshot doctor says."
        )
    return loaded


def predicted(
    model: Predictor, inputs: tuple[Input, ...], workbench: Workbench
) -> Float[np.ndarray, "examples classes"]:
    """Return the probabilities of a model in memory.

    What its members share of frozen work is done once, through the feature store.
    """
    encoder = workbench.encodings(model.config).encoder
    proba = model.fitted.predict_proba(Encodings(inputs=inputs, encoder=encoder))
    return apply_temperature(proba.astype(np.float64), model.temperature)


def scored(model: Predictor, test: Examples, workbench: Workbench) -> dict[str, float]:
    """Return what a model in memory scores on test data."""
    labelled = test.labelled()
    return score_predictions(
        labelled.labels, predicted(model, labelled.inputs, workbench)
    )


def score_predictions(
    labels: np.ndarray, proba: Float[np.ndarray, "examples classes"]
) -> dict[str, float]:
    """Return accuracy, macro-F1, log loss and n."""
    values = {name: objective(name).function(labels, proba) for name in TEST_METRICS}
    return {**values, "n": float(len(labels))}
