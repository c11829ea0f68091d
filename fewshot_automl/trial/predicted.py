"""Out-of-fold predictions of a trial: kept, found again, and scored."""

from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float

from fewshot_automl.adaptation.method import Fitted
from fewshot_automl.evaluation.calibration import refinement_loss
from fewshot_automl.evaluation.folds import Fold
from fewshot_automl.evaluation.intervals import standard_error
from fewshot_automl.evaluation.objectives import objective, score
from fewshot_automl.evaluation.predictions import Predictions, save_predictions
from fewshot_automl.outcome import REFINEMENT, Outcome
from fewshot_automl.space import Config
from fewshot_automl.trial.measured import measures_of
from fewshot_automl.trial.transfer import transfer_scores
from fewshot_automl.trial.workbench import Workbench
from fewshot_automl.trial.workload import is_dear

REPORTED: Final = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss")
"""Measured for every trial, whatever the metric searched."""
WORST_RECALL: Final = "worst_class_recall"
"""The metric that is the measure `worst_recall`."""


def repeats_of(bench: Workbench, config: Config) -> tuple[tuple[Fold, ...], ...]:
    """Return the folds of a trial, repeat by repeat; dear methods have fewer."""
    most = bench.problem.dear_repeats if is_dear(config) else None
    return bench.problem.folds.repeats[:most]


def no_predictions(
    bench: Workbench, config: Config
) -> Float[np.ndarray, "repeats examples classes"]:
    """Return out-of-fold predictions of a trial that has not made any yet."""
    problem = bench.problem
    repeats = len(repeats_of(bench, config))
    return np.full((repeats, len(problem.labels), problem.task.classes), np.nan)


def outcome_of(
    bench: Workbench,
    config: Config,
    fitted: Fitted,
    proba: Float[np.ndarray, "repeats examples classes"],
    seconds: float,
) -> Outcome:
    """Score a trial by its out-of-fold predictions, and keep them.

    Args:
        bench: Holds the problem and the folder.
        config: What was tried.
        fitted: The model of one fold, to be measured.
        proba: Predictions of all folds.
        seconds: What they cost.
    """
    problem = bench.problem
    file = _file_of(config)
    assignment = problem.folds.assignment[: len(proba)]
    save_predictions(bench.folder / file, Predictions(proba=proba, folds=assignment))
    metric = problem.task.metric
    repeats = repeats_of(bench, config)
    scores = [
        _fold_score(bench, row, fold)
        for row, folds in zip(proba, repeats, strict=True)
        for fold in folds
    ]
    mean = _mean_score(bench, proba, metric)
    return Outcome(
        status="done",
        scores=tuple(scores),
        mean=mean,
        standard_error=standard_error(metric, problem.labels, proba),
        cost_seconds=seconds,
        measures={
            **_reported(bench, proba),
            REFINEMENT: _mean_refinement(bench, proba),
            **measures_of(bench, config, fitted),
            **transfer_scores(bench, config, mean),
        },
        predictions=file.as_posix(),
    )


def _file_of(config: Config) -> Path:
    return Path("predictions") / f"{config.key}.safetensors"


def _fold_score(
    bench: Workbench, proba: Float[np.ndarray, "examples classes"], fold: Fold
) -> float:
    """Return the score on one fold; pooled metrics may be undefined on so few."""
    labels = bench.problem.labels[fold.validation]
    measured = objective(bench.problem.task.metric)
    value = measured.function(labels, proba[fold.validation])
    return measured.orient(value)


def _mean_score(
    bench: Workbench, proba: Float[np.ndarray, "repeats examples classes"], metric: str
) -> float:
    """Return the metric of the out-of-fold predictions, averaged over repeats."""
    labels = bench.problem.labels
    return float(np.mean([score(metric, labels, row) for row in proba]))


def _reported(
    bench: Workbench, proba: Float[np.ndarray, "repeats examples classes"]
) -> dict[str, float]:
    found = {
        name: objective(name).orient(_mean_score(bench, proba, name))
        for name in REPORTED
    }
    return {**found, "worst_recall": _mean_score(bench, proba, WORST_RECALL)}


def _mean_refinement(
    bench: Workbench, proba: Float[np.ndarray, "repeats examples classes"]
) -> float:
    """Return what the search weighs scores with."""
    labels = bench.problem.labels
    return float(np.mean([refinement_loss(row, labels) for row in proba]))
