"""Runs a Config: cross-validated for the search, on all examples for the model."""

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int

from fewshot_automl import group
from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.adaptation.method import Fitted, Job
from fewshot_automl.adaptation.table import method
from fewshot_automl.errors import DataError, OutOfTime, ShapeError, TrialError
from fewshot_automl.evaluation.intervals import standard_error
from fewshot_automl.evaluation.resampling import predicted_rows
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config
from fewshot_automl.training.memory import peak_memory
from fewshot_automl.trial.context import Problem, TrialContext
from fewshot_automl.trial.forecast import WAYS, remembered, thrift
from fewshot_automl.trial.measures import measures_of

Made = TypeVar("Made")
SURE: Final = 0.8
"""Share of the seconds that the folds left should take; less is hope."""


def evaluate(
    context: TrialContext,
    config: Config,
    allowance_seconds: float | None = None,
    *,
    enough_seconds: float | None = None,
) -> Outcome:
    """Cross-validate a Config, in so many seconds.

    A method that trains by steps is scored on as many folds as there is time for, and
    after `enough_seconds` begins no other if the rest is enough for two of another.
    Examples of the other folds have outputs of NaN; they widen the standard error.

    Raises:
        TrialError: If it cannot be fitted.
        OutOfTime: If it would not be over in time, or what was has no score.
    """
    start = time.monotonic()
    end = None if allowance_seconds is None else start + allowance_seconds
    enough = None if enough_seconds is None else start + enough_seconds
    problem = context.problem
    targets = problem.targets
    trains = problem.trains(config)
    way = thrift(context, config)
    peak = peak_memory(context.placement.device)
    encodings = context.encodings(config, end)
    repeats = problem.repeats(config)
    outputs = np.full(
        (len(repeats), len(targets), problem.task.width), np.nan, dtype=np.float32
    )
    planned = [(row, fold) for row, folds in enumerate(repeats) for fold in folds]
    times: list[float] = []
    for row, fold in planned:
        if not trains:
            _check_time(times, len(planned), end)
        elif _is_enough(times, enough, end):
            break
        times.append(time.monotonic())
        try:
            fitted = fit(context, encodings, config, fold.train, end, way)
        except OutOfTime:
            times.pop()
            if trains and times:
                break
            raise
        held_out = fitted.outputs(encodings.take(fold.validation))
        if not np.isfinite(held_out).all():
            raise TrialError("Predictions are NaN. Use a lower learning rate.")
        outputs[row, fold.validation] = held_out
    whole = max(len(times) // len(repeats[0]), 1)
    outputs = outputs[:whole]  # of a later partition all folds count, or none
    measures = measures_of(context, config, fitted)
    measures |= remembered(context, config, way, peak()) if trains else {}
    seconds = time.monotonic() - start
    try:
        return scored(problem, outputs, measures, seconds)
    except (DataError, ShapeError) as why:  # as a ranking of one class
        if len(times) == len(planned):
            raise
        raise OutOfTime(
            f"There was time for {len(times)} of {len(planned)} folds, too few for a "
            f"score: {why}"
        ) from why


def scored(
    problem: Problem,
    outputs: Float[np.ndarray, "repeats examples width"],
    measures: Mapping[str, float],
    seconds: float,
) -> Outcome:
    """Return the Outcome of out-of-fold outputs, by the metric of the problem.

    Raises:
        DataError: If the metric is undefined on these examples.
    """
    metric, targets = problem.task.measured, problem.targets
    by_fold = [
        (x[fold.validation], targets[fold.validation])
        for x, folds in zip(outputs, problem.folds.repeats, strict=False)
        for fold in folds
        if np.isfinite(x[fold.validation]).all()
    ]
    means = [metric.score(y, x) for y, x in predicted_rows(targets, outputs)]
    return Outcome(
        status="done",
        # On so few some metrics are undefined, and `score` would refuse.
        scores=tuple(metric.orient(metric.value(y, x)) for x, y in by_fold),
        mean=float(np.mean(means)),
        standard_error=standard_error(metric, targets, outputs),
        cost_seconds=seconds,
        measures={**measures, **_scored(problem, outputs)},
        outputs=outputs,
    )


def refit(
    context: TrialContext, config: Config, deadline: float | None = None
) -> Fitted:
    """Fit a Config to all labelled examples, before `time.monotonic()` is a deadline.

    Raises:
        TrialError: If it cannot be fitted.
        OutOfTime: If it was not over in time.
    """
    everything = np.arange(len(context.problem.targets))
    encodings = context.encodings(config, deadline)
    way = thrift(context, config)
    return fit(context, encodings, config, everything, deadline, way)


def together(
    work: Callable[..., Made], context: TrialContext, config: Config, *arguments: Any
) -> Made | None:
    """Return what `evaluate` or `refit` makes of a Config in several processes.

    The first alone runs it, and looks at clocks. Before each training it tells the
    others, which make nothing, what to train. What it has encoded they read from the
    store.
    """
    if group.number() == 0:
        try:
            return work(context, config, *arguments)
        finally:
            group.tell(None)
    while (order := group.hear()) is not None:
        chosen, seconds = order
        end = None if seconds is None else time.monotonic() + seconds
        with contextlib.suppress(TrialError):  # the first process meets the same
            fit(context, context.encodings(config), config, chosen, end)
    return None


def fit(
    context: TrialContext,
    encodings: Encodings,
    config: Config,
    chosen: Int[np.ndarray, " chosen"],
    deadline: float | None,
    way: tuple[int, bool] = WAYS[0],
) -> Fitted:
    """Fit a Config to the chosen examples, in one of the ways of `thrift`."""

    def begin() -> None:
        if context.placement.processes > 1 and group.number() == 0:
            left = None if deadline is None else deadline - time.monotonic()
            group.tell((chosen, left))

    more = context.problem.unlabelled
    parts, checkpoints = way
    job = Job(
        task=context.problem.task,
        config=config,
        seed=context.seed,
        placement=context.placement,
        deadline=deadline,
        unlabelled=replace(more, encoder=encodings.encoder) if more else None,
        parts=parts,
        checkpoints=checkpoints,
        before_training=begin,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        fitted = method(config.text("method")).fit(
            encodings.take(chosen), context.problem.targets[chosen], job
        )
    if not fitted.is_finite:
        raise TrialError(
            "The fitted head holds NaN or infinite numbers. Use a lower learning rate."
        )
    return fitted


def _scored(
    problem: Problem, outputs: Float[np.ndarray, "repeats examples width"]
) -> dict[str, float]:
    """Return what out-of-fold outputs say besides the score, averaged over repeats."""
    rules = problem.task.rules
    metrics = {name: rules.metric(name) for name in rules.reported}
    rows = [
        {
            **{name: one.value(y, x) for name, one in metrics.items()},
            **rules.measures(y, x),
        }
        for y, x in predicted_rows(problem.targets, outputs)
    ]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _is_enough(
    times: Sequence[float], enough: float | None, deadline: float | None
) -> bool:
    """Return whether a training trial ends with the folds it has.

    Time that would not do for two folds of another trial is used for one more of this.
    `times` are when each fold so far began.
    """
    if not times:
        return False
    now = time.monotonic()
    each = min(after - before for before, after in pairwise([*times, now]))
    left = math.inf if deadline is None else deadline - now
    if SURE * each > left:
        return True
    return enough is not None and now + each > enough and 2 * each <= left


def _check_time(times: Sequence[float], planned: int, deadline: float | None) -> None:
    """Give up as soon as the folds so far show that the rest will not fit.

    The first fold pays for activations that the others only read, so it says nothing.
    `times` are when each fold so far began.
    """
    if deadline is None:
        return
    now = time.monotonic()
    if now > deadline:
        raise OutOfTime(
            f"The deadline passed after {len(times)} of {planned} folds. Give a larger "
            "budget."
        )
    if len(times) < 2:
        return
    each = (now - times[1]) / (len(times) - 1)
    if now + SURE * each * (planned - len(times)) > deadline:
        raise OutOfTime(
            f"{len(times)} of {planned} folds took {now - times[0]:.1f} s; the rest "
            "would not have been over in time. Give a larger budget."
        )
