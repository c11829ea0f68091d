"""Out-of-fold predictions of a trial: kept, found again, and scored."""

import logging
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int

from fewshot_automl.adaptation.method import Fitted
from fewshot_automl.errors import LedgerError
from fewshot_automl.evaluation.folds import Fold
from fewshot_automl.evaluation.intervals import standard_error
from fewshot_automl.evaluation.predictions import (
    Predictions,
    load_predictions,
    save_predictions,
)
from fewshot_automl.evaluation.resampling import is_predicted, pooled_score
from fewshot_automl.outcome import FIRST_REFINEMENT, REFINEMENT, Outcome
from fewshot_automl.space import Config
from fewshot_automl.tasks import metric_named
from fewshot_automl.tasks.calibration import refinement_loss
from fewshot_automl.trial.measured import measures_of
from fewshot_automl.trial.workbench import Workbench
from fewshot_automl.trial.workload import is_dear

logger = logging.getLogger(__name__)

REPORTED: Final = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss")
"""Measured for every trial, whatever the metric searched."""
WORST_RECALL: Final = "worst_class_recall"
"""The metric that is the measure `worst_recall`."""
ROUNDING: Final = 1e-3
"""Most that kept probabilities of an example may sum to beside 1."""


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


def predicted_before(
    bench: Workbench, config: Config
) -> Float[np.ndarray, "repeats examples classes"]:
    """Return out-of-fold predictions that a first look at a Config has kept.

    There are none in a file that is damaged, of other folds, or whole: then that
    trial is over, and this is another.
    """
    nothing = no_predictions(bench, config)
    path = bench.folder / _file_of(config)
    if not path.exists():
        return nothing
    try:
        kept = load_predictions(path)
    except LedgerError as error:
        logger.warning("Running all folds of %s again: %s", config, error)
        return nothing
    repeats = repeats_of(bench, config)
    assignment = bench.problem.folds.assignment[: len(repeats)]
    if kept.proba.shape != nothing.shape or not np.array_equal(kept.folds, assignment):
        logger.warning("Running all folds of %s again: they are others", config)
        return nothing
    found = nothing.copy()
    for index, folds in enumerate(repeats):
        for fold in folds:
            rows = kept.proba[index, fold.validation]
            if (np.abs(rows.sum(axis=1) - 1) < ROUNDING).all() and rows.min() >= 0:
                found[index, fold.validation] = rows
    return nothing if is_predicted(found).all() else found


def is_run(proba: Float[np.ndarray, "examples classes"], fold: Fold) -> bool:
    """Return whether a fold's examples were predicted."""
    return bool(np.isfinite(proba[fold.validation]).all())


def has_score(
    bench: Workbench, proba: Float[np.ndarray, "repeats examples classes"]
) -> bool:
    """Return whether the folds run so far give a score and its standard error."""
    problem = bench.problem
    if np.count_nonzero(is_predicted(proba).any(axis=0)) < 2:
        return False
    return bool(np.isfinite(pooled_score(problem.task.metric, problem.labels, proba)))


def outcome_of(
    bench: Workbench,
    config: Config,
    fitted: Fitted | None,
    proba: Float[np.ndarray, "repeats examples classes"],
    seconds: float,
) -> Outcome:
    """Score a trial by its out-of-fold predictions, and keep them.

    Args:
        bench: Holds the problem and the folder.
        config: What was tried.
        fitted: The model of one fold, to be measured; None if there is none.
        proba: Predictions; NaN where a fold was not run.
        seconds: What they cost, without those of an earlier trial.
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
        if is_run(row, fold)
    ]
    mean = _mean_score(bench, proba, metric)
    return Outcome(
        status="done",
        scores=tuple(scores),
        mean=mean,
        standard_error=standard_error(metric, problem.labels, proba),
        cost_seconds=seconds,
        objectives={
            **_reported(bench, proba),
            **_refinement(bench, proba),
            **({} if fitted is None else measures_of(bench, config, fitted)),
        },
        predictions=file.as_posix(),
        folds_left=sum(map(len, repeats)) - len(scores),
    )


def _file_of(config: Config) -> Path:
    return Path("predictions") / f"{config.key}.safetensors"


def _fold_score(
    bench: Workbench, proba: Float[np.ndarray, "examples classes"], fold: Fold
) -> float:
    """Return the score on one fold; pooled metrics may be undefined on so few."""
    labels = bench.problem.labels[fold.validation]
    measured = metric_named(bench.problem.task.metric)
    value = measured.value(labels, proba[fold.validation])
    return measured.orient(value)


def _mean_score(
    bench: Workbench, proba: Float[np.ndarray, "repeats examples classes"], metric: str
) -> float:
    """Return the metric of the out-of-fold predictions, averaged over repeats."""
    labels = bench.problem.labels
    seen = zip(is_predicted(proba), proba, strict=True)
    return float(
        np.mean(
            [
                metric_named(metric).score(labels[i], row[i])
                for i, row in seen
                if i.any()
            ]
        )
    )


def _reported(
    bench: Workbench, proba: Float[np.ndarray, "repeats examples classes"]
) -> dict[str, float]:
    found = {
        name: metric_named(name).orient(_mean_score(bench, proba, name))
        for name in REPORTED
    }
    return {**found, "worst_recall": _mean_score(bench, proba, WORST_RECALL)}


def _refinement(
    bench: Workbench, proba: Float[np.ndarray, "repeats examples classes"]
) -> dict[str, float]:
    """Return what the search weighs scores with."""
    problem = bench.problem
    seen = is_predicted(proba)
    looked = np.zeros_like(seen)
    for fold in problem.folds.first[: problem.first_folds]:
        looked[0, fold.validation] = True
    return {
        REFINEMENT: _mean_refinement(proba, seen, problem.labels),
        FIRST_REFINEMENT: _mean_refinement(proba, looked, problem.labels),
    }


def _mean_refinement(
    proba: Float[np.ndarray, "repeats examples classes"],
    wanted: Bool[np.ndarray, "repeats examples"],
    labels: Int[np.ndarray, " examples"],
) -> float:
    losses = [
        refinement_loss(row[i], labels[i])
        for i, row in zip(wanted, proba, strict=True)
        if i.any()
    ]
    return float(np.mean(losses))
