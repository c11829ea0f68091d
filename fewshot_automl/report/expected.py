"""What to expect of the model, and how that compares with simpler ones."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.evaluation.intervals import REACH, wilson_interval
from fewshot_automl.outcome import History
from fewshot_automl.report.axes import Axis, around
from fewshot_automl.report.words import SHARES, summary_of
from fewshot_automl.space import Config
from fewshot_automl.tasks import Metric, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the comparison: a score with its interval."""

    kind: str
    """`winner`, `baseline` or `test`: how it is drawn."""
    label: str
    """What was scored."""
    detail: str
    """With which backbone, or on what."""
    score: float
    """In the metric's own direction."""
    low: float
    """Lower end of the interval; equal to `score` where there is none."""
    high: float
    verdict: str = ""
    """How it compares with the winner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """Holds the score to expect, and everything it is compared with."""

    metric: Metric
    raw: float
    """Cross-validated score of the winner."""
    corrected: float
    """The same, the luck of being picked taken off."""
    low: float
    """Lower end of the interval."""
    high: float
    examples: int
    """Labelled examples behind it."""
    tried: int
    """Trials it was picked from."""
    majority_share: float | None
    """Share of the most common class."""
    beats_majority: bool
    """Whether the winner can be told apart from a constant answer."""
    rows: tuple[Row, ...]
    """The winner, the baselines from best to worst, the test."""
    axis: Axis
    """Holds all rows."""
    test: Row | None
    """The metric on the test data, if it was measured there."""
    test_scores: tuple[tuple[str, float], ...]
    """Everything measured on the test data."""
    test_examples: int

    @property
    def is_share(self) -> bool:
        """Return whether the metric is the share of new examples that are right."""
        return self.metric.name in SHARES

    @property
    def luck(self) -> float:
        """Return by how much the raw score flatters; 0 or more."""
        gap = self.metric.orient(self.raw) - self.metric.orient(self.corrected)
        return max(gap, 0.0)

    @property
    def is_flattered(self) -> bool:
        """Return whether raw and corrected differ as they are printed."""
        return round(self.luck, 3) > 0


def expected(summary: Mapping[str, Any], history: History) -> Expectation:
    """Return what to expect of the model of a summary (see `write_report`)."""
    score, winner = summary["score"], summary["winner"]["number"]
    metric = Task.from_json(summary["task"]).measured
    tests = dict(summary["test"] or {})
    size = int(tests.pop("n", 0))
    tried = sum(outcome.is_done for _, outcome in history)
    first = Row(
        kind="winner",
        label="The winner",
        detail=summary_of(history[winner][0]),
        score=float(score["corrected"]),
        low=float(score["low"]),
        high=float(score["high"]),
        verdict="" if tried == 1 else "corrected for having been picked",
    )
    rows, test = [first, *_baselines(summary, history, metric)], None
    if math.isfinite(value := float(tests.get(metric.name, math.nan))):
        is_share = metric.name in SHARES
        low, high = wilson_interval(value, size) if is_share else (value, value)
        test = Row(
            kind="test",
            label="The winner on the test data",
            detail=f"{size:,} examples never used before",
            score=value,
            low=low,
            high=high,
        )
        rows.append(test)
    ends = [value for row in rows for value in (row.low, row.score, row.high)]
    low, high = around(ends, (metric.worst, metric.best))
    counts = summary.get("class_counts", {}).values()
    equal = {winner, *summary["indistinguishable"]}
    return Expectation(
        metric=metric,
        raw=float(score["raw"]),
        corrected=first.score,
        low=first.low,
        high=first.high,
        examples=int(score["examples"]),
        tried=tried,
        majority_share=max(counts) / sum(counts) if counts else None,
        beats_majority=all(history[i][0].text("method") != "majority" for i in equal),
        rows=tuple(rows),
        axis=Axis(low=low, high=high, start=0, end=460),
        test=test,
        test_scores=tuple(sorted(tests.items())),
        test_examples=size,
    )


def _baselines(
    summary: Mapping[str, Any], history: History, metric: Metric
) -> list[Row]:
    """Return a row for each baseline with the interval of a score not picked."""
    places = {config: number for number, (config, _) in enumerate(history)}
    least, most = sorted((metric.worst, metric.best))
    rows = []
    for entry in sorted(summary["baselines"], key=lambda b: -metric.orient(b["score"])):
        config, score = Config.from_json(entry["config"]), float(entry["score"])
        error = entry["standard_error"]
        reach = REACH * error if math.isfinite(error) else 0.0
        rows.append(
            Row(
                kind="baseline",
                label=METHODS[entry["method"]].title,
                detail=str(config.get("backbone", "")),
                score=score,
                low=max(score - reach, least),
                high=min(score + reach, most),
                verdict=_verdict(places[config], summary),
            )
        )
    return rows


def _verdict(number: int, summary: Mapping[str, Any]) -> str:
    if number == summary["winner"]["number"]:
        return "is the winner, before correction"
    if number in summary["over"]:
        return "breaks a limit"
    if number in summary["indistinguishable"]:
        return "cannot be told apart from the winner"
    return "worse than the winner"
