"""Runs a Config: cross-validated for the search, on all examples for the model."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.adaptation.method import Fitted, Job
from fewshot_automl.adaptation.table import method
from fewshot_automl.errors import OutOfTime, TrialError
from fewshot_automl.evaluation.folds import Fold
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config
from fewshot_automl.trial.predicted import (
    no_predictions,
    outcome_of,
    repeats_of,
)
from fewshot_automl.trial.workbench import Workbench


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
        encodings = bench.encodings(config, deadline)
        proba = no_predictions(bench, config)
        planned = [
            (index, fold)
            for index, folds in enumerate(repeats_of(bench, config))
            for fold in folds
        ]
        times: list[float] = []
        for index, fold in planned:
            _check_time(times, len(planned), deadline)
            times.append(time.monotonic())
            fitted = fit_on(bench, encodings, config, fold.train, deadline)
            proba[index, fold.validation] = predicted(fitted, encodings, fold)
        return outcome_of(bench, config, fitted, proba, time.monotonic() - start)


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
