"""What to expect of the model, and how that compares with simpler ones.

Two things are never drawn beside each other: what to expect on new data, and scores of
cross-validation, which flatter whatever was picked by them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.evaluation.intervals import REACH, wilson_interval
from fewshot_automl.outcome import History
from fewshot_automl.report.axes import Axis, around
from fewshot_automl.report.words import SHARES, summary_of
from fewshot_automl.space import Config
from fewshot_automl.tasks import Metric, Task


class Row(NamedTuple):
    """One line of a comparison: a score, in the metric's own direction."""

    label: str
    detail: str
    """With which backbone, or on what."""
    value: float
    low: float
    """Lower end of the interval; equal to `value` where there is none."""
    high: float
    verdict: str = ""
    """How it compares with the winner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """Holds the score to expect, and everything it is compared with."""

    metric: Metric
    validated: float
    """Cross-validated score of the model; of a single trial, that trial's."""
    luck: float
    """By how much being picked flatters it; 0 or more."""
    expected: float
    """What to expect on new data: the luck taken off, and trained on all examples."""
    low: float
    high: float
    examples: int
    tried: int
    """Trials it was picked from."""
    majority_share: float | None
    """Share of the most common class."""
    against_majority: str
    """How the model compares with a constant answer; see `Score`."""
    on_new_data: tuple[Row, ...]
    """What to expect, and the test if the metric was measured there."""
    validated_rows: tuple[Row, ...]
    """The model and the baselines from best to worst, all cross-validated."""
    test_scores: tuple[tuple[str, float], ...]
    test_examples: int

    def axis(self, rows: Sequence[Row]) -> Axis:
        """Return an axis that holds these rows, in percent of its length."""
        ends = [value for row in rows for value in (row.low, row.value, row.high)]
        low, high = around(ends, (self.metric.worst, self.metric.best))
        return Axis(low=low, high=high, start=0, end=100)


def expected(summary: Mapping[str, Any], history: History) -> Expectation:
    """Return what to expect of the model of a summary (see `write_report`)."""
    score, winner = summary["score"], summary["winner"]["number"]
    metric = Task.from_json(summary["task"]).measured
    tests = {name: float(value) for name, value in (summary["test"] or {}).items()}
    size = int(tests.pop("n", 0))
    low, high, count = float(score["low"]), float(score["high"]), score["examples"]
    corrected, raw = float(score["corrected"]), float(score["raw"])
    best_guess, detail = (
        float(score["expected"]),
        f"scored on {count:,} labelled examples",
    )
    new = [Row("To expect", detail, best_guess, low, high)]
    if math.isfinite(value := tests.get(metric.name, math.nan)):
        ends = wilson_interval(value, size) if metric.name in SHARES else (value, value)
        detail = f"{size:,} examples never used before"
        new.append(Row("On your test data", detail, value, *ends))
    config, outcome = history[winner]
    numbers = [str(member["number"]) for member in summary["members"]]
    detail = f"the average of trials {', '.join(numbers)}"
    validated = raw
    if len(numbers) == 1:
        detail, validated = summary_of(config), metric.orient(outcome.mean)
    rows = [
        Row("The model", detail, *_reach(validated, summary["standard_error"], metric)),
        *_baselines(summary, history, metric),
    ]
    counts = summary.get("class_counts", {}).values()
    return Expectation(
        metric=metric,
        validated=validated,
        luck=max(metric.orient(raw) - metric.orient(corrected), 0.0),
        expected=best_guess,
        low=low,
        high=high,
        examples=int(count),
        tried=sum(outcome.is_done for _, outcome in history),
        majority_share=max(counts) / sum(counts) if counts else None,
        against_majority=score["against_majority"],
        on_new_data=tuple(new),
        validated_rows=tuple(rows),
        test_scores=tuple(tests.items()),
        test_examples=size,
    )


def _reach(value: float, error: float, metric: Metric) -> tuple[float, float, float]:
    """Return a score with the ends of the interval of one that was not picked."""
    least, most = sorted((metric.worst, metric.best))
    reach = REACH * error if math.isfinite(error) else 0.0
    return value, max(value - reach, least), min(value + reach, most)


def _baselines(
    summary: Mapping[str, Any], history: History, metric: Metric
) -> list[Row]:
    places = {config: number for number, (config, _) in enumerate(history)}
    winner, rows = summary["winner"]["number"], []
    for entry in sorted(summary["baselines"], key=lambda b: -metric.orient(b["score"])):
        config = Config.from_json(entry["config"])
        number, title = places[config], METHODS[entry["method"]].title
        if number == winner and len(summary["members"]) == 1:
            continue
        score = _reach(float(entry["score"]), entry["standard_error"], metric)
        detail = str(config.get("backbone", ""))
        rows.append(Row(title, detail, *score, _verdict(number, summary)))
    return rows


def _verdict(number: int, summary: Mapping[str, Any]) -> str:
    if number == summary["winner"]["number"]:
        return "one of the trials averaged"
    if number in summary["over"]:
        return "breaks a limit"
    if number in summary["indistinguishable"]:
        return "too close to call"
    return "worse than the winner"
