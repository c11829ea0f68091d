"""What runs say together: who is ahead, by how much, and what can be relied on."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Final

import numpy as np
from scipy import stats

from fewshot_automl.bench.results import Run
from fewshot_automl.errors import UserError
from fewshot_automl.tasks import metric_named

RESAMPLES: Final = 10_000
LEVEL: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """By how much the reference is ahead of an entrant on the same draws."""

    mean: float
    low: float
    """Lower end of the 95 % interval, from resampling the pairs."""
    high: float
    pairs: int
    worst: float
    """Mean difference of the task where the reference does worst."""
    worst_task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Runs of equal shots and budget."""

    shots: int
    budget: float
    reference: str
    runs: tuple[Run, ...]
    """Those of entrants that do not depend on the budget too."""

    @property
    def title(self) -> str:
        """Return what they share."""
        return f"{self.shots} shots, {self.budget:g} s"

    @property
    def tasks(self) -> list[str]:
        """Return the tasks in their order."""
        return list(dict.fromkeys(run.task for run in self.runs))

    @property
    def entrants(self) -> list[str]:
        """Return the entrants in their order."""
        return list(dict.fromkeys(run.entrant for run in self.runs))

    def of(self, entrant: str, task: str | None = None) -> list[Run]:
        """Return the finished runs of an entrant, of one task if asked."""
        return [
            run
            for run in self.runs
            if run.is_done and run.entrant == entrant and task in (None, run.task)
        ]

    def mean(self, entrant: str, task: str) -> float:
        """Return the mean value over draws; NaN if there is none."""
        return _mean([run.value for run in self.of(entrant, task)])

    def ranks(self) -> tuple[dict[str, float], float, float]:
        """Return mean ranks, their critical difference, and Friedman's p-value.

        1 is best. An entrant that lacks a run of some task is not ranked.

        Source:
            Demsar, JMLR 7 (2006), eq. 1 and section 3.2.2 (Nemenyi's test).
        """
        rows = {
            name: [self._oriented(name, t) for t in self.tasks]
            for name in self.entrants
        }
        values = {name: row for name, row in rows.items() if np.isfinite(row).all()}
        if not values:
            return {}, np.nan, np.nan
        ranks = stats.rankdata([-np.array(row) for row in values.values()], axis=0)
        means = dict(zip(values, map(float, ranks.mean(axis=1)), strict=True))
        k, n = ranks.shape
        q = float(stats.studentized_range.ppf(LEVEL, k, np.inf)) if k > 1 else 0.0
        p = stats.friedmanchisquare(*ranks).pvalue if k > 2 and n > 1 else np.nan
        return means, q / np.sqrt(2) * np.sqrt(k * (k + 1) / (6 * n)), float(p)

    def difference(self, other: str) -> Difference | None:
        """Return by how much the reference is ahead; None if they share no draw."""
        theirs = {(r.task, r.draw): r for r in self.of(other)}
        gaps: dict[str, list[float]] = {}
        for run in self.of(self.reference):
            if (run.task, run.draw) in theirs:
                gap = _oriented(run) - _oriented(theirs[run.task, run.draw])
                gaps.setdefault(run.task, []).append(gap)
        pairs = np.array([gap for each in gaps.values() for gap in each])
        if not len(pairs):
            return None
        draws = np.random.default_rng(0).choice(pairs, (RESAMPLES, len(pairs)))
        low, high = np.quantile(draws.mean(axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        worst = min(gaps, key=lambda task: _mean(gaps[task]))
        return Difference(
            mean=float(pairs.mean()),
            low=float(low),
            high=float(high),
            pairs=len(pairs),
            worst=_mean(gaps[worst]),
            worst_task=worst,
        )

    def facts(self, entrant: str) -> dict[str, float]:
        """Return means over an entrant's runs, and what its statements were worth."""
        done = self.of(entrant)
        stated = [r for r in done if r.low is not None and r.high is not None]
        held = [float(r.low <= r.value <= r.high) for r in stated]  # type: ignore[operator]
        errors = [r.expected - r.value for r in done if r.expected is not None]  # type: ignore[operator]
        return {
            "value": _mean([r.value for r in done]),
            "log_loss": _mean([r.log_loss for r in done]),
            "held": _mean(held),
            "stated_error": _mean(errors),
            "seconds": _mean([r.seconds for r in done]),
            "latest_seconds": max((r.finish_seconds for r in done), default=np.nan),
            "latency_ms": _mean([r.latency_ms for r in done]),
            "members": _mean([r.members for r in done]),
            "runs": float(len(done)),
            "failed": float(sum(r.entrant == entrant for r in self.runs) - len(done)),
        }

    def figures(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        ranks, critical, p = self.ranks()
        return {
            "critical_difference": critical,
            "friedman_p": p,
            "entrants": {
                name: {
                    **self.facts(name),
                    "rank": ranks.get(name),
                    "behind": gap and asdict(gap),
                    "tasks": {task: self.mean(name, task) for task in self.tasks},
                }
                for name in self.entrants
                for gap in [self.difference(name)]
            },
        }

    def table(self) -> str:
        """Return the tables that people read."""
        ranks, critical, p = self.ranks()
        names, tasks = self.entrants, self.tasks
        facts = {name: self.facts(name) for name in names}
        rows = [[task, *(_said(self.mean(x, task)) for x in names)] for task in tasks]
        rows.append(["mean", *(_said(facts[x]["value"]) for x in names)])
        rows.append(["mean rank", *(_said(ranks.get(x), 2) for x in names)])
        for key in list(facts[names[0]])[1:]:
            digits = 3 if key in ("log_loss", "held", "stated_error") else 0
            digits = 1 if key in ("latency_ms", "members") else digits
            words = key.replace("_", " ")
            rows.append([words, *(_said(facts[x][key], digits) for x in names)])
        lines = [f"{self.title}: means over draws", _aligned([["", *names], *rows])]
        lines.append(
            f"Ranks that differ by less than {critical:.2f} are level (Nemenyi, 5 %; "
            f"Friedman p = {p:.2g}, {len(tasks)} tasks)."
        )
        gaps = {x: self.difference(x) for x in names if x != self.reference}
        lines += [
            f"{self.reference} - {name}: {gap.mean:+.3f} [{gap.low:+.3f}, "
            f"{gap.high:+.3f}], {gap.pairs} pairs, worst task {gap.worst_task} "
            f"{gap.worst:+.3f}"
            for name, gap in gaps.items()
            if gap is not None
        ]
        return "\n".join([*lines, ""])

    def _oriented(self, entrant: str, task: str) -> float:
        return _mean([_oriented(run) for run in self.of(entrant, task)])


def summarise(runs: Sequence[Run], reference: str) -> list[Summary]:
    """Return a summary for each number of shots and each budget among runs.

    Raises:
        UserError: If the reference is not among the entrants.
    """
    names = dict.fromkeys(run.entrant for run in runs)
    if reference not in names:
        raise UserError(
            f"reference must be one of {', '.join(names)}, got {reference!r}."
        )
    budgets = sorted({run.budget for run in runs if run.budget is not None}) or [0.0]
    made = []
    for shots, budget in product(sorted({run.shots for run in runs}), budgets):
        chosen = [r for r in runs if r.shots == shots and r.budget in (None, budget)]
        made.append(
            Summary(shots=shots, budget=budget, reference=reference, runs=tuple(chosen))
        )
    return made


def _oriented(run: Run) -> float:
    assert run.value is not None
    return metric_named(run.metric).orient(run.value)


def _mean(values: Sequence[float | int | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else np.nan


def _said(value: float | None, digits: int = 3) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.{digits}f}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides: list[Callable[..., str]] = [str.ljust, *[str.rjust] * (len(widths) - 1)]
    return "\n".join(
        "  ".join(side(x, w) for side, x, w in zip(sides, row, widths, strict=True))
        for row in rows
    )
