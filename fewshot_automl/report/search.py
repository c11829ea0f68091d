"""The search, trial by trial: a table, and two drawings of it."""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final

from fewshot_automl.oracle.folds import latest
from fewshot_automl.outcome import Outcome
from fewshot_automl.report.axes import Axis, around
from fewshot_automl.report.words import settings, title
from fewshot_automl.space import Config
from fewshot_automl.tasks import Metric, metric_named

History = Sequence[tuple[Config, Outcome]]

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
    folds_left: int
    """How many were not; then the score is not of all examples."""
    seconds: float
    """Of this trial, and of an earlier one that it went on from."""
    reason: str
    """Why it failed or was stopped."""
    is_winner: bool
    is_equal: bool
    """Whether it cannot be told apart from the winner."""
    is_over: bool
    """Whether it breaks a limit, and so could not win."""

    @property
    def is_whole(self) -> bool:
        """Return whether it has a score of all folds."""
        return self.score is not None and not self.folds_left

    @property
    def folds_told(self) -> str:
        """Return how many folds were scored; of how many, if not of all."""
        told = f"{self.folds} of {self.folds + self.folds_left}"
        return told if self.folds_left else str(self.folds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Everything that is shown of a search."""

    measured: Metric
    """The metric."""
    rows: tuple[TrialRow, ...]
    """Every trial, in order, but for those that a later one has gone on from."""
    methods: tuple[str, ...]
    """The methods that were done, in order of their colours."""
    best: tuple[float, ...]
    """Best raw score of all folds after each trial, from the first whole one on."""
    first: int
    """The number of the first trial of all folds."""
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
    def parted(self) -> tuple[TrialRow, ...]:
        """Return the trials that have a score of some folds only."""
        return tuple(row for row in self.done if row.folds_left)

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
            key=lambda row: (row.is_winner, self.measured.orient(row.score or 0.0)),
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
        """Return whether no trial of all folds had a better raw score."""
        winner = next(row for row in self.rows if row.is_winner)
        return winner.score is not None and winner.score == self.best[-1]


def search(summary: Mapping[str, Any], history: History) -> Search:
    """Return what is shown of a search.

    Args:
        summary: What `result.json` holds.
        history: All trials.
    """
    measured = metric_named(summary["score"]["metric"])
    names = [c.text("method") for c, outcome in history if outcome.is_done]
    methods = list(dict.fromkeys(names))
    equal = set(summary.get("indistinguishable") or ())
    over = set(summary.get("over") or ())
    replaced = set(range(len(history))).difference(latest(history))
    before = _seconds_before(history, replaced)
    rows = tuple(
        TrialRow(
            number=number,
            method=title(config.text("method")),
            colour=methods.index(name)
            if (name := config.text("method")) in methods
            else len(methods),
            backbone=config.text("backbone") if "backbone" in config else "",
            settings=settings(config),
            status=outcome.status,
            score=measured.orient(outcome.mean) if outcome.is_done else None,
            error=outcome.standard_error
            if math.isfinite(outcome.standard_error)
            else None,
            folds=len(outcome.scores),
            folds_left=outcome.folds_left,
            seconds=outcome.cost_seconds + before.get(number, 0.0),
            reason=outcome.reason,
            is_winner=number == summary["winner"]["number"],
            is_equal=number in equal,
            is_over=number in over,
        )
        for number, (config, outcome) in enumerate(history)
        if number not in replaced
    )
    scores = [row.score for row in rows if row.score is not None]
    low, high, hidden = _range(scores, measured)
    costs = [max(row.seconds, LEAST_SECONDS) for row in rows if row.score is not None]
    first = next(row.number for row in rows if row.is_whole)
    return Search(
        measured=measured,
        rows=rows,
        methods=tuple(map(title, methods)),
        best=_best(rows, range(first, len(history)), measured),
        first=first,
        trials=Axis(low=-0.5, high=max(len(history), 2) - 0.5, start=0, end=WIDTH),
        scores=Axis(low=low, high=high, start=HEIGHT, end=0),
        seconds=Axis(
            low=min(costs) / 1.5, high=max(costs) * 1.5, start=0, end=WIDTH, log=True
        ),
        hidden=hidden,
    )


def _seconds_before(history: History, replaced: Set[int]) -> dict[int, float]:
    """Return the seconds of trials that were gone on from, by what replaced them."""
    last = {config: number for number, (config, _) in enumerate(history)}
    seconds: dict[int, float] = {}
    for number in replaced:
        config, outcome = history[number]
        place = last[config]
        seconds[place] = seconds.get(place, 0.0) + outcome.cost_seconds
    return seconds


def _best(
    rows: Sequence[TrialRow], numbers: Sequence[int], measured: Metric
) -> tuple[float, ...]:
    """Return the best score of all folds so far, after each trial.

    Args:
        rows: What was tried.
        numbers: The trials, from one that has such a score on.
        measured: Says which way is better.
    """
    scores = {row.number: row.score for row in rows if row.is_whole}
    best = -math.inf
    seen = []
    for number in numbers:
        score = scores.get(number)
        if score is not None:
            best = max(best, measured.orient(score))
        seen.append(measured.orient(best))
    return tuple(seen)


def _range(scores: Sequence[float], measured: Metric) -> tuple[float, float, int]:
    """Return the ends of the score axis, and how many bad scores lie beyond.

    A loss has no worst value: one trial that went astray would flatten all others.
    """
    kept = sorted(map(measured.orient, scores), reverse=True)
    if not math.isfinite(measured.worst) and len(kept) > 3:
        middle = kept[len(kept) // 2]
        floor = middle - max(6 * (kept[0] - middle), 1.0)
        kept = [score for score in kept if score >= floor]
    low, high = around(map(measured.orient, kept), (measured.worst, measured.best))
    return low, high, len(scores) - len(kept)
