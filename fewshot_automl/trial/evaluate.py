"""Runs a Config: cross-validated for the search, on all examples for the model."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int

from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.adaptation.method import Fitted, Job
from fewshot_automl.adaptation.table import method
from fewshot_automl.errors import OutOfTime, TrialError
from fewshot_automl.evaluation.folds import Fold
from fewshot_automl.evaluation.intervals import standard_error
from fewshot_automl.evaluation.objectives import objective, score
from fewshot_automl.evaluation.predictions import Predictions, save_predictions
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config
from fewshot_automl.trial.workbench import Workbench

REPORTED: Final = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss")
"""Measured for every trial, whatever the metric searched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluate:
    """Is the function a study calls: a Config goes in, an Outcome comes back."""

    workbench: Workbench

    def __call__(self, config: Config, deadline: float | None) -> Outcome:
        """Cross-validate a Config.

        Args:
            config: What to try.
            deadline: `time.monotonic()` at which it must be over.

        Raises:
            TrialError: If it cannot be fitted.
            OutOfTime: If it would not be over in time.
        """
        start = time.monotonic()
        bench = self.workbench
        repeats = repeats_of(bench, config)
        encodings = bench.encodings(config, deadline)
        proba = no_predictions(bench, config)
        times: list[float] = []
        planned = sum(len(folds) for folds in repeats)
        for index, folds in enumerate(repeats):
            for fold in folds:
                _check_time(times, planned, deadline)
                times.append(time.monotonic())
                fitted = fit_on(bench, encodings, config, fold.train, deadline)
                proba[index, fold.validation] = predicted(fitted, encodings, fold)
        return outcome_of(bench, config, proba, time.monotonic() - start)


def repeats_of(bench: Workbench, config: Config) -> tuple[tuple[Fold, ...], ...]:
    """Return the folds of a trial, repeat by repeat; dear methods have fewer."""
    is_dear = method(config.text("method")).is_dear
    most = bench.problem.dear_repeats if is_dear else None
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
    proba: Float[np.ndarray, "repeats examples classes"],
    seconds: float,
) -> Outcome:
    """Score a trial by its out-of-fold predictions, and keep them."""
    problem = bench.problem
    file = Path("predictions") / f"{config.key}.safetensors"
    assignment = problem.folds.assignment[: len(proba)]
    save_predictions(bench.folder / file, Predictions(proba=proba, folds=assignment))
    metric = problem.task.metric
    scores = [
        _fold_score(bench, row, fold)
        for row, folds in zip(proba, repeats_of(bench, config), strict=True)
        for fold in folds
    ]
    return Outcome(
        status="done",
        scores=tuple(scores),
        mean=_mean_score(bench, proba, metric),
        standard_error=standard_error(metric, problem.labels, proba),
        cost_seconds=seconds,
        objectives={**_reported(bench, proba), **_size(bench, config)},
        predictions=file.as_posix(),
    )


def refit(
    workbench: Workbench, config: Config, deadline: float | None = None
) -> Fitted:
    """Fit a Config to all labelled examples.

    Raises:
        TrialError: If it cannot be fitted.
        OutOfTime: If it was not over in time.
    """
    everything = np.arange(len(workbench.problem.labels))
    encodings = workbench.encodings(config, deadline)
    return fit_on(workbench, encodings, config, everything, deadline)


def fit_on(
    bench: Workbench,
    encodings: Encodings,
    config: Config,
    chosen: Int[np.ndarray, " chosen"],
    deadline: float | None,
) -> Fitted:
    """Fit a Config to some of the labelled examples.

    Raises:
        TrialError: If it cannot be fitted.
        OutOfTime: If it was not over in time.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(bench.seed)
        fitted = method(config.text("method")).fit(
            encodings.take(chosen),
            bench.problem.labels[chosen],
            job_of(bench, config, deadline),
        )
    return checked(fitted)


def job_of(bench: Workbench, config: Config, deadline: float | None) -> Job:
    """Return what a fit of a Config is told."""
    return Job(
        task=bench.problem.task,
        config=config,
        seed=bench.seed,
        placement=bench.placement,
        deadline=deadline,
    )


def checked(fitted: Fitted) -> Fitted:
    """Return a model whose numbers are finite.

    Raises:
        TrialError: If one is not.
    """
    if not fitted.is_finite:
        raise TrialError(
            "The fitted head holds NaN or infinite numbers. Use a lower learning rate."
        )
    return fitted


def predicted(
    fitted: Fitted, encodings: Encodings, fold: Fold
) -> Float[np.ndarray, "validation classes"]:
    """Return probabilities for the held-out examples of a fold.

    Raises:
        TrialError: If they are not finite.
    """
    proba = fitted.predict_proba(encodings.take(fold.validation)).astype(np.float64)
    if not np.isfinite(proba).all():
        raise TrialError("Predictions are NaN. Use a lower learning rate.")
    return proba


def _check_time(times: list[float], planned: int, deadline: float | None) -> None:
    """Give up as soon as the folds so far show that the rest will not fit.

    The first fold pays for activations that the others only read, so it says nothing.

    Args:
        times: When each fold so far began.
        planned: How many folds there are to be.
        deadline: When all must be over.
    """
    now = time.monotonic()
    if deadline is None:
        return
    if now > deadline:
        raise OutOfTime(
            f"The deadline passed after {len(times)} of {planned} folds. Give a larger "
            "budget."
        )
    if len(times) < 2:
        return
    each = (now - times[1]) / (len(times) - 1)
    if now + 0.8 * each * (planned - len(times)) > deadline:
        raise OutOfTime(
            f"{len(times)} of {planned} folds took {now - times[0]:.1f} s; the rest "
            "would not have been over in time. Give a larger budget."
        )


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
    """Return the metric of all out-of-fold predictions, averaged over repeats."""
    return float(
        np.mean([score(metric, bench.problem.labels, repeat) for repeat in proba])
    )


def _reported(
    bench: Workbench, proba: Float[np.ndarray, "repeats examples classes"]
) -> dict[str, float]:
    return {
        name: objective(name).orient(_mean_score(bench, proba, name))
        for name in REPORTED
    }


def _size(bench: Workbench, config: Config) -> dict[str, float]:
    if "backbone" not in config:
        return {}
    card = bench.card(config.text("backbone"))
    return {"parameters": float(card.parameters), "flops": float(card.flops)}
