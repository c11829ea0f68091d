"""The search, trial by trial: a table, and drawings of score, time and measures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median_low
from typing import Any, Final

from fewshot_automl.evaluation.measures import MEASURES, SCORE, Measure
from fewshot_automl.outcome import History, Outcome
from fewshot_automl.report.axes import Axis, around
from fewshot_automl.report.words import bound_of
from fewshot_automl.space import Config
from fewshot_automl.tasks import Metric, Task

WIDTH: Final = 400
"""Of a drawing's inside, in pixels."""
HEIGHT: Final = 250
"""Of a drawing's inside, in pixels."""
LEAST_SECONDS: Final = 1e-3
"""Shorter trials are drawn as if they took this long."""
WIDE: Final = 20.0
"""Ratio of the largest to the smallest value from which an axis is logarithmic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRow:
    """One trial as the report shows it."""

    number: int
    config: Config
    outcome: Outcome
    colour: int
    """Of its method, counted from 0."""
    score: float | None
    """In the metric's own direction; None unless done."""
    is_winner: bool
    is_equal: bool
    """Whether it is another than the winner and cannot be told apart from it."""
    is_over: bool
    """Whether it breaks a limit, and so could not win."""
    is_front: bool
    """Whether no other trial is as good in everything and better in something."""

    @property
    def error(self) -> float | None:
        """Return the standard error of the score; None unless known."""
        error = self.outcome.standard_error
        return error if math.isfinite(error) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Everything that is shown of a search."""

    metric: Metric
    rows: tuple[TrialRow, ...]
    """Every trial, in order."""
    methods: tuple[str, ...]
    """The methods that were done, in order of their colours."""
    best: tuple[float, ...]
    """Best raw score after each trial, from the first done one on."""
    first: int
    """The number of the first trial that was done."""
    trials: Axis
    """Of trial numbers."""
    scores: Axis
    """Of scores, in the metric's own direction."""
    seconds: Axis
    """Of costs; logarithmic."""
    hidden: int
    """Trials so bad that they are drawn at the edge."""
    quick: int
    """Trials so quick that they are drawn at the edge."""

    @property
    def done(self) -> tuple[TrialRow, ...]:
        """Return the trials that have a score."""
        return tuple(row for row in self.rows if row.score is not None)

    @property
    def undone(self) -> tuple[TrialRow, ...]:
        """Return the trials that have none: failed, stopped or broken off."""
        return tuple(row for row in self.rows if row.score is None)

    @property
    def ranked(self) -> tuple[TrialRow, ...]:
        """Return the winner, the other trials from best to worst, then the undone."""
        done = sorted(self.done, key=lambda row: (not row.is_winner, -row.outcome.mean))
        return (*done, *self.undone)


def search(summary: Mapping[str, Any], history: History) -> Search:
    """Return what is shown of a search, of a summary (see `write_report`)."""
    metric = Task.from_json(summary["task"]).measured
    names = [config.text("method") for config, outcome in history if outcome.is_done]
    methods = list(dict.fromkeys(names))
    winner, front = summary["winner"]["number"], {r["number"] for r in summary["front"]}
    rows = [
        TrialRow(
            number=number,
            config=config,
            outcome=outcome,
            colour=methods.index(config.text("method")) if outcome.is_done else 0,
            score=metric.orient(outcome.mean) if outcome.is_done else None,
            is_winner=number == winner,
            is_equal=number in summary["indistinguishable"] and number != winner,
            is_over=number in summary["over"],
            is_front=number in front,
        )
        for number, (config, outcome) in enumerate(history)
    ]
    done = [row for row in rows if row.outcome.is_done]
    means = [o.mean if o.is_done else -math.inf for _, o in history[done[0].number :]]
    low, high, hidden = _range([row.outcome.mean for row in done], metric)
    costs = [max(row.outcome.cost_seconds, LEAST_SECONDS) for row in _large(done)]
    return Search(
        metric=metric,
        rows=tuple(rows),
        methods=tuple(methods),
        best=tuple(map(metric.orient, accumulate(means, max))),
        first=done[0].number,
        trials=Axis(low=-0.5, high=max(len(history), 2) - 0.5, start=0, end=WIDTH),
        scores=Axis(low=low, high=high, start=HEIGHT, end=0),
        seconds=_log_axis(costs),
        hidden=hidden,
        quick=sum(row.outcome.cost_seconds < min(costs) / 1.5 for row in done),
    )


def _large(rows: Sequence[TrialRow]) -> Sequence[TrialRow]:
    """Return those with a backbone, if any: the others are tiny on an axis of cost."""
    return [row for row in rows if "backbone" in row.config] or rows


def _range(means: Sequence[float], metric: Metric) -> tuple[float, float, int]:
    """Return the ends of the score axis, and how many bad scores lie beyond.

    A loss has no worst value: one trial that went astray would flatten all others.
    """
    kept = sorted(means, reverse=True)
    if not math.isfinite(metric.worst) and len(kept) > 3:
        middle = kept[len(kept) // 2]
        floor = middle - max(6 * (kept[0] - middle), 1.0)
        kept = [mean for mean in kept if mean >= floor]
    low, high = around(map(metric.orient, kept), (metric.worst, metric.best))
    return low, high, len(means) - len(kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tradeoff:
    """Draws the score of trials beside one measure."""

    measure: Measure
    scores: Axis
    """In the metric's own direction."""
    values: Axis
    """Of the measure."""
    rows: tuple[TrialRow, ...]
    """Every trial that measured it; those on the front last, so that they are seen."""
    tiny: int
    """Trials too small for the axis, which are drawn at its start."""
    front: str
    """Path of the best score of the front that is to be had at each value, if this
    measure and the score are all that is traded; else empty."""
    edge: float | None
    """Place of a limit; None without one."""
    limit: str
    """The limit in words; empty without one."""


def tradeoffs(summary: Mapping[str, Any], found: Search) -> tuple[Tradeoff, ...]:
    """Return a drawing for each measure that is an objective or limited."""
    limits = {limit["name"]: limit for limit in summary["limits"]}
    names = dict.fromkeys([*summary["objectives"], *limits])
    del names[SCORE]
    rows = list(found.done)
    rows.sort(key=lambda row: (row.is_winner, row.is_front, -row.number))
    return tuple(
        _tradeoff(MEASURES[name], limits.get(name), rows, found.metric, len(names) == 1)
        for name in names
    )


def _tradeoff(
    measure: Measure,
    limit: Mapping[str, Any] | None,
    every: Sequence[TrialRow],
    metric: Metric,
    is_alone: bool,
) -> Tradeoff:
    rows = [row for row in every if measure.name in row.outcome.measures]
    up = _score_axis(rows, metric)
    values = [row.outcome.measures[measure.name] for row in rows]
    spanned = [row.outcome.measures[measure.name] for row in _large(rows)]
    bounds = () if limit is None else (limit["least"], limit["most"])
    ends = [end for end in bounds if end is not None]
    across = _value_axis([*(spanned if measure.adds_up else values), *ends], measure)
    corners = [
        (across.place(value), up.place(row.score or 0.0))
        for row, value in zip(rows, values, strict=True)
        if row.is_front and is_alone
    ]
    return Tradeoff(
        measure=measure,
        scores=up,
        values=across,
        rows=tuple(rows),
        tiny=sum(value < across.low for value in values),
        front=_path(sorted(corners), measure),
        edge=across.place(ends[0]) if ends else None,
        limit="" if limit is None else bound_of(limit),
    )


def _score_axis(rows: Sequence[TrialRow], metric: Metric) -> Axis:
    """Return an axis that is no finer than the noise: two standard errors at least."""
    scores = [row.score for row in rows if row.score is not None] or [0.5]
    reach = median_low([row.error for row in rows if row.error is not None] or [0.0])
    middle = (min(scores) + max(scores)) / 2
    held = [*scores, middle - reach, middle + reach]
    low, high = around(held, (metric.worst, metric.best))
    return Axis(low=low, high=high, start=HEIGHT, end=0)


def _log_axis(values: Sequence[float]) -> Axis:
    low, high = min(values) / 1.5, max(values) * 1.5
    return Axis(low=low, high=high, start=0, end=WIDTH, log=True)


def _value_axis(values: Sequence[float], measure: Measure) -> Axis:
    """Return an axis that holds values; what is less stands at its start."""
    positive = [value for value in values if value > 0] or [1.0]
    if measure.adds_up and max(positive) > WIDE * min(positive):
        return _log_axis(positive)
    low, high = around(values, (0.0, 1.0 if measure.is_maximised else math.inf), 0.1)
    if high - low < 0.1 * high:  # ticks have three digits
        low, high = 0.9 * low, 1.1 * high
    return Axis(low=low, high=high, start=0, end=WIDTH)


def _path(corners: Sequence[tuple[float, float]], measure: Measure) -> str:
    """Return the path of the best score at most, or at least, at each value.

    >>> _path([(1.0, 9.0), (4.0, 2.0), (5.0, 3.0)], MEASURES["flops"])
    'M1.0 9.0H4.0V2.0H5.0V2.0H400'
    """
    if not corners:
        return ""
    way = -1 if measure.is_maximised else 1
    # The front allows for noise; scores, as they are drawn, may fall along it.
    best = list(accumulate([y for _, y in corners[::way]], min))[::way]
    steps = [(x, y) for (x, _), y in zip(corners, best, strict=True)]
    (left, top), *rest = steps
    if measure.is_maximised:
        return f"M0 {top}" + "".join(f"V{y}H{x}" for x, y in steps)
    return f"M{left} {top}" + "".join(f"H{x}V{y}" for x, y in rest) + f"H{WIDTH}"
