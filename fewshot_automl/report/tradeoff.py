"""What more score costs: each trial beside what it measures, the front and limits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fewshot_automl.evaluation.measures import MEASURES, SCORE, Measure
from fewshot_automl.outcome import History
from fewshot_automl.report.axes import Axis, around
from fewshot_automl.report.search import HEIGHT, WIDTH, done_methods
from fewshot_automl.report.words import bound_of, label
from fewshot_automl.space import Config
from fewshot_automl.tasks import Metric, Task

WIDE: Final = 20.0
"""Ratio of the largest to the smallest value from which an axis is logarithmic."""
TICKS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """One trial in a drawing."""

    number: int
    label: str
    """Method and backbone."""
    colour: int
    """Of its method, as in the search's drawings."""
    x: float
    """Place across."""
    y: float
    """Place up."""
    text: str
    """Score and measure in words."""
    is_front: bool
    is_winner: bool
    is_over: bool
    """Whether it breaks a limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """Draws the score of trials beside one measure."""

    measure: Measure
    scores: Axis
    """In the metric's own direction."""
    values: Axis
    """Of the measure."""
    ticks: tuple[tuple[float, str], ...]
    """Places and words across."""
    spots: tuple[Spot, ...]
    """Every trial that measured it; those on the front last, so that they are seen."""
    front: str
    """Path of the best score that is to be had at each value, if this measure and the
    score are all that is traded; else empty."""
    shade: tuple[float, float] | None
    """Left end and width of what a limit forbids."""
    limit: str
    """The limit in words; empty without one."""

    @property
    def name(self) -> str:
        """Return what is written below the axis."""
        unit = f" ({self.measure.unit})" if self.measure.unit else ""
        better = "greater" if self.measure.is_maximised else "smaller"
        return f"{self.measure.title}{unit}, {better} is better"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tradeoff:
    """Everything about several objectives and limits."""

    plots: tuple[Plot, ...]
    """One for each measure that was asked for."""
    front: tuple[tuple[Mapping[str, Any], Config], ...]
    """The trials of the front as `result.json` has them, the best score first."""
    measures: tuple[Measure, ...]
    """The columns of the front."""
    limits: tuple[Mapping[str, Any], ...]
    """As `result.json` has them; `measure` and `bound` are put in."""
    keeping: int
    """Trials that keep all limits."""

    @property
    def broken(self) -> tuple[Mapping[str, Any], ...]:
        """Return the limits that the model breaks."""
        return tuple(limit for limit in self.limits if not limit["is_kept"])


def tradeoff(summary: Mapping[str, Any], history: History) -> Tradeoff | None:
    """Return what to show of objectives and limits; None if nobody asked for any.

    Args:
        summary: What `result.json` holds.
        history: All trials.
    """
    limits = summary.get("limits") or []
    asked = [*(summary.get("objectives") or []), *(limit["name"] for limit in limits)]
    names = [name for name in dict.fromkeys(asked) if name != SCORE]
    if not names:
        return None
    metric = Task.from_json(summary["task"]).measured
    measures = tuple(MEASURES[name] for name in names)
    bounds = {limit["name"]: limit for limit in limits}
    return Tradeoff(
        plots=tuple(
            _plot(summary, history, metric, measure, bounds, len(names) == 1)
            for measure in measures
        ),
        front=tuple(
            (row, Config.from_json(row["config"])) for row in summary.get("front") or []
        ),
        measures=measures,
        limits=tuple(
            {**limit, "measure": MEASURES[limit["name"]], "bound": bound_of(limit)}
            for limit in limits
        ),
        keeping=int(summary.get("keeping") or 0),
    )


def _plot(
    summary: Mapping[str, Any],
    history: History,
    metric: Metric,
    measure: Measure,
    bounds: Mapping[str, Mapping[str, Any]],
    is_alone: bool,
) -> Plot:
    smoothed = summary.get("smoothed") or []
    shown = {
        i: (score, float(history[i][1].measures[measure.name]))
        for i, score in enumerate(smoothed)
        if score is not None and measure.name in history[i][1].measures
    }
    scores = [metric.orient(score) for score, _ in shown.values()]
    errors = [history[i][1].standard_error for i in shown]
    up = _score_axis(scores, errors, metric)
    bound = bounds.get(measure.name)
    end = None if bound is None else _end(bound)
    across = _axis([value for _, value in shown.values()], end, measure)
    front = [row["number"] for row in summary.get("front") or []]
    over = set(summary.get("over") or ())
    methods = done_methods(history)
    spots = [
        Spot(
            number=i,
            label=label(history[i][0]),
            colour=methods.index(history[i][0].text("method")),
            x=across.place(value),
            y=up.place(metric.orient(score)),
            text=f"{metric.orient(score):.3f}, {measure.format(value)}",
            is_front=i in front,
            is_winner=i == summary["winner"]["number"],
            is_over=i in over,
        )
        for i, (score, value) in shown.items()
    ]
    corners = [(spot.x, spot.y) for spot in spots if spot.is_front and is_alone]
    return Plot(
        measure=measure,
        scores=up,
        values=across,
        ticks=tuple((across.place(v), _tick(v, measure)) for v in across.ticks(TICKS)),
        spots=tuple(sorted(spots, key=lambda s: (s.is_winner, s.is_front, -s.number))),
        front=_path(sorted(corners), measure),
        shade=None if end is None else _shade(across, end, measure),
        limit="" if bound is None else bound_of(bound),
    )


def _score_axis(
    scores: Sequence[float], errors: Sequence[float], metric: Metric
) -> Axis:
    """Return an axis that is no finer than the noise: two standard errors at least."""
    known = sorted(error for error in errors if math.isfinite(error))
    reach = known[len(known) // 2] if known else 0.0
    middle = (min(scores) + max(scores)) / 2 if scores else 0.5
    held = [*scores, middle - reach, middle + reach]
    low, high = around(held, (metric.worst, metric.best))
    return Axis(low=low, high=high, start=HEIGHT, end=0)


def _axis(values: Sequence[float], end: float | None, measure: Measure) -> Axis:
    """Return an axis that holds values and a limit; zeros stand at its start."""
    held = [*values, *([] if end is None else [end])]
    positive = [value for value in held if value > 0] or [1.0]
    if measure.adds_up and max(positive) > WIDE * min(positive):
        low, high = min(positive) / 1.5, max(positive) * 1.5
        return Axis(low=low, high=high, start=0, end=WIDTH, log=True)
    low, high = around(held, (0.0, 1.0 if measure.is_maximised else math.inf), 0.1)
    if high - low < 1e-9 * max(abs(high), 1.0):
        low, high = low - 0.5, high + 0.5
    return Axis(low=low, high=high, start=0, end=WIDTH)


def _path(corners: Sequence[tuple[float, float]], measure: Measure) -> str:
    """Return the path of the best score at most, or at least, at each value.

    >>> _path([(1.0, 9.0), (4.0, 2.0)], MEASURES["flops"])
    'M1.0 9.0H4.0V2.0H470'
    """
    if not corners:
        return ""
    if measure.is_maximised:
        (_, top), *_ = corners
        return f"M0 {top}" + "".join(f"V{y}H{x}" for x, y in corners)
    (left, first), *rest = corners
    return f"M{left} {first}" + "".join(f"H{x}V{y}" for x, y in rest) + f"H{WIDTH}"


def _shade(across: Axis, end: float, measure: Measure) -> tuple[float, float]:
    """Return left end and width of what is beyond a limit."""
    place = across.place(end)
    if measure.is_maximised:
        return float(across.start), place - across.start
    return place, across.end - place


def _end(bound: Mapping[str, Any]) -> float:
    return float(bound["least"] if bound["most"] is None else bound["most"])


def _tick(value: float, measure: Measure) -> str:
    """Return a tick without its unit, which the axis names once."""
    return measure.format(value).removesuffix(f" {measure.unit}")
