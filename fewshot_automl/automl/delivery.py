"""A model as it leaves: saved, read back, checked and scored on test data."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float

from fewshot_automl.adaptation.encodings import Encoder, Encodings
from fewshot_automl.adaptation.fitted import Adapted
from fewshot_automl.adaptation.method import Fitted
from fewshot_automl.adaptation.saved import Ensemble, median_seconds, middling
from fewshot_automl.automl.limits import Limits
from fewshot_automl.automl.tried import Outputs, Tried
from fewshot_automl.data import Examples
from fewshot_automl.errors import ExportError
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.modalities import Input
from fewshot_automl.policy import broken
from fewshot_automl.predictor import Predictor
from fewshot_automl.tasks import Task
from fewshot_automl.trial import TrialContext, size_of

CHECKED: Final = 8
"""Labelled examples on which a saved model must agree with the one in memory."""
TOLERANCE: Final = 1e-4
"""Of a probability there, on a CPU, before it is calibrated."""
DEVICE_TOLERANCE: Final = 1e-2
"""Of a probability elsewhere: convolutions on a GPU keep 10 bits of a product, and
choose another algorithm for another batch."""
MOST_TOLERANCE: Final = 0.1
"""Of a probability, however low temperatures magnify what was rounded."""
SLICE: Final = 256
"""Examples whose activations are in memory at a time."""
TIMES: Final = 3
"""Times that a latency beyond its limit is measured: noise only ever adds to it."""


def deliver(model: Predictor, folder: Path, context: TrialContext) -> Predictor:
    """Save a model and return it as it is on disk.

    Args:
        model: Fitted in the context.
        folder: Where to.
        context: Knows the labelled examples, and what they are to its backbones.

    Raises:
        ExportError: If what was saved predicts something else.
    """
    loaded = Predictor.load(model.save(folder))
    inputs = context.problem.inputs
    places = np.unique(np.linspace(0, len(inputs) - 1, CHECKED).round().astype(int))
    few = tuple(inputs[place] for place in places)
    wanted = predicted(model, few, context)
    gap = np.abs(wanted - loaded.outputs_of(few)).max()
    # Probabilities are at most 1; what is predicted in other units may be far larger.
    scale = max(1.0, float(np.abs(wanted).max()))
    allowed = scale * _tolerance(model, context.placement.device)
    if not gap <= allowed:
        raise ExportError(
            f"The model in {folder} must predict within {allowed:g} what it did before "
            f"it was saved, got an output that is {gap:.2g} off. Please report it, "
            "with what fewshot doctor says."
        )
    return loaded


def predicted(
    model: Predictor, inputs: tuple[Input, ...], context: TrialContext
) -> Float[np.ndarray, "examples width"]:
    """Return the calibrated outputs of a model in memory.

    Features of unchanged backbones are computed once for all that use them, through
    the feature store. Activations that lead into changed blocks are hundreds of times
    larger: they are kept neither there nor for longer than `SLICE` examples.
    """
    encoder = _forgetful(model.fitted, context.encodings(model.config).encoder)
    whole = Encodings(inputs=inputs, encoder=encoder)
    fitted = model.fitted
    if isinstance(fitted, Ensemble):
        fitted = replace(
            fitted,
            members=tuple(
                replace(member, encoder=_forgetful(member.fitted, member.encoder))
                for member in fitted.members
            ),
        )
    outputs = np.concatenate(
        [
            fitted.outputs(whole.take(places))
            for places in np.split(
                np.arange(len(inputs)), range(SLICE, len(inputs), SLICE)
            )
        ]
    )
    return model.task.rules.calibrate(outputs.astype(np.float64), model.calibration)


def _forgetful(fitted: Fitted, encoder: Encoder | None) -> Encoder | None:
    """Return an encoder that keeps nothing if a model asks it for activations."""
    if encoder is None or not isinstance(fitted, Adapted) or fitted.start is None:
        return encoder
    return replace(encoder, store=FeatureStore(None, max_memory_bytes=0))


def _tolerance(model: Predictor, device: str) -> float:
    """Return how far off a probability may be for rounding alone.

    Dividing log-probabilities by a temperature below 1 magnifies their rounding.
    """
    plain = TOLERANCE if device == "cpu" else DEVICE_TOLERANCE
    members = model.fitted.members if isinstance(model.fitted, Ensemble) else ()
    inner = [_temperature(member.calibration) for member in members]
    magnified = plain / min(inner, default=1.0) / _temperature(model.calibration)
    return min(magnified, MOST_TOLERANCE)


def _temperature(calibration: Mapping[str, float]) -> float:
    """Return the temperature of probabilities, where they have one; 1 at most."""
    return min(calibration.get("temperature", 1.0), 1.0)


def scored(model: Predictor, test: Examples, context: TrialContext) -> dict[str, float]:
    """Return what a model in memory scores on test data."""
    labelled = test.labelled(model.task)
    return score_outputs(
        model.task, labelled.targets, predicted(model, labelled.inputs, context)
    )


def score_outputs(
    task: Task, targets: np.ndarray, outputs: Float[np.ndarray, "examples width"]
) -> dict[str, float]:
    """Return the task's metric, those its kind reports, and n."""
    names = dict.fromkeys((*task.rules.reported, task.metric))
    metrics = task.rules.metrics
    values = {name: metrics[name].value(targets, outputs) for name in names}
    return {**values, "n": float(len(targets))}


def delivered_measures(
    model: Predictor, numbers: list[int], tried: Tried, outputs: Outputs, limits: Limits
) -> dict[str, float]:
    """Return the measures of a saved model that was read back; its latency is new.

    Args:
        model: As it was read back.
        numbers: The trials it is of.
        tried: Knows what cannot be seen on it: the operations of its backbones.
        outputs: Its out-of-fold outputs.
        limits: A latency beyond its limit is measured again, lest it be noise.
    """
    example = middling(tried.problem.inputs)
    latency = [limit for limit in limits if limit.name == "latency_ms"]
    times: list[float] = []
    while len(times) < TIMES:
        seconds = median_seconds(lambda: model.outputs_of((example,)))
        times.append(1000 * seconds)
        if not broken(latency, {"latency_ms": min(times)}):
            break
    return {
        **size_of(model.fitted),
        "flops": tried.measures(numbers).get("flops", 0.0),
        "latency_ms": min(times),
        **tried.measured(outputs),
    }
