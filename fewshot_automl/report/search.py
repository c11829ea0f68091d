"""The search, trial by trial: a table, and two drawings of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fewshot_automl.outcome import History
from fewshot_automl.report.axes import Axis, around
from fewshot_automl.report.words import settings, title
from fewshot_automl.tasks import Metric, Task

WIDTH: Final = 470
"""Of a drawing's inside, in pixels."""
HEIGHT: Final = 250
"""Of a drawing's inside, in pixels."""
LEAST_SECONDS: Final = 1e-3
"""Shorter trials are drawn as if they took this long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRow:
    """One trial as the report shows it."""

    number: int
    method: str
    """For people."""
    colour: int
    """Of its method, counted from 0."""
    backbone: str
    """Empty for methods without one."""
    settings: str
    """All else that was set."""
    status: str
    score: float | None
    """In the metric's own direction; None unless done."""
    error: float | None
    """Standard error of the score; None unless known."""
    folds: int
    """How many folds were scored."""
    seconds: float
    reason: str
    """Why it failed or was stopped."""
    is_winner: bool
    is_equal: bool
    """Whether it cannot be told apart from the winner."""
    is_over: bool
    """Whether it breaks a limit, and so could not win."""


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

    @property
    def done(self) -> tuple[TrialRow, ...]:
        """Return the trials that have a score."""
        return tuple(row for row in self.rows if row.score is not None)

    @property
    def undone(self) -> tuple[TrialRow, ...]:
        """Return the trials that have none: failed, stopped or broken off."""
        return tuple(row for row in self.rows if row.score is None)

    @property
    def faults(self) -> tuple[tuple[TrialRow, ...], ...]:
        """Return the trials without a score, those of one reason together."""
        groups: dict[tuple[str, str], list[TrialRow]] = {}
        for row in self.undone:
            groups.setdefault((row.status, row.reason), []).append(row)
        return tuple(map(tuple, groups.values()))

    @property
    def ranked(self) -> tuple[TrialRow, ...]:
        """Return the winner, the other trials from best to worst, then the undone."""
        worst_first = sorted(
            self.done,
            key=lambda row: (row.is_winner, self.metric.orient(row.score or 0.0)),
        )
        return (*reversed(worst_first), *self.undone)

    @property
    def equals(self) -> int:
        """Return how many trials besides the winner cannot be told apart from it."""
        return sum(row.is_equal and not row.is_winner for row in self.rows)

    @property
    def over(self) -> int:
        """Return how many trials break a limit."""
        return sum(row.is_over for row in self.rows)

    @property
    def best_is_winner(self) -> bool:
        """Return whether no trial had a better raw score."""
        winner = next(row for row in self.rows if row.is_winner)
        return winner.score is not None and winner.score == self.best[-1]


def search(summary: Mapping[str, Any], history: History) -> Search:
    """Return what is shown of a search.

    Args:
        summary: What `result.json` holds.
        history: All trials.
    """
    metric = Task.from_json(summary["task"]).measured
    methods = done_methods(history)
    equal = set(summary.get("indistinguishable") or ())
    over = set(summary.get("over") or ())
    rows = []
    for number, (config, outcome) in enumerate(history):
        name, error = config.text("method"), outcome.standard_error
        rows.append(
            TrialRow(
                number=number,
                method=title(name),
                colour=methods.index(name) if name in methods else len(methods),
                backbone=config.text("backbone") if "backbone" in config else "",
                settings=settings(config),
                status=outcome.status,
                score=metric.orient(outcome.mean) if outcome.is_done else None,
                error=error if math.isfinite(error) else None,
                folds=len(outcome.scores),
                seconds=outcome.cost_seconds,
                reason=outcome.reason,
                is_winner=number == summary["winner"]["number"],
                is_equal=number in equal,
                is_over=number in over,
            )
        )
    best: list[float] = []
    for row in rows:
        if row.score is not None:
            best.append(max([metric.orient(row.score), *best[-1:]]))
        elif best:
            best.append(best[-1])
    scores = [row.score for row in rows if row.score is not None]
    low, high, hidden = _range(scores, metric)
    costs = [max(row.seconds, LEAST_SECONDS) for row in rows if row.score is not None]
    return Search(
        metric=metric,
        rows=tuple(rows),
        methods=tuple(map(title, methods)),
        best=tuple(map(metric.orient, best)),
        first=next(row.number for row in rows if row.score is not None),
        trials=Axis(low=-0.5, high=max(len(history), 2) - 0.5, start=0, end=WIDTH),
        scores=Axis(low=low, high=high, start=HEIGHT, end=0),
        seconds=Axis(
            low=min(costs) / 1.5, high=max(costs) * 1.5, start=0, end=WIDTH, log=True
        ),
        hidden=hidden,
    )


def done_methods(history: History) -> list[str]:
    """Return the methods that have a score; their places are their colours."""
    names = [config.text("method") for config, outcome in history if outcome.is_done]
    return list(dict.fromkeys(names))


def _range(scores: Sequence[float], metric: Metric) -> tuple[float, float, int]:
    """Return the ends of the score axis, and how many bad scores lie beyond.

    A loss has no worst value: one trial that went astray would flatten all others.
    """
    kept = sorted(map(metric.orient, scores), reverse=True)
    if not math.isfinite(metric.worst) and len(kept) > 3:
        middle = kept[len(kept) // 2]
        floor = middle - max(6 * (kept[0] - middle), 1.0)
        kept = [score for score in kept if score >= floor]
    low, high = around(map(metric.orient, kept), (metric.worst, metric.best))
    return low, high, len(scores) - len(kept)
