"""Pictures of a comparison, beside its results."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from fewshot_automl.bench.summary import Summary

FORMATS: Final = (".png", ".svg")


def draw_all(summaries: Sequence[Summary], results: Path) -> list[str]:
    """Draw all plots; return a sentence on each, or on why there is none."""
    if find_spec("matplotlib") is None:
        return ["No plots, for matplotlib is not installed: pip install matplotlib"]
    said = []
    summaries = [summary for summary in summaries if summary.ranks()[0]]
    for shots in dict.fromkeys(summary.shots for summary in summaries):
        alike = [summary for summary in summaries if summary.shots == shots]
        said += _written(time_figure(alike), results, f"{shots}-seconds")
    for one in summaries:
        if len(one.ranks()[0]) > 2:
            name = f"{one.shots}-{one.budget:g}s-ranks"
            said += _written(rank_figure(one), results, name)
    return said


def rank_figure(summary: Summary) -> Any:
    """Draw mean ranks; a bar joins entrants that cannot be told apart.

    Source:
        Demsar, JMLR 7 (2006), figure 1.
    """
    from matplotlib.figure import Figure

    ranks, critical, _ = summary.ranks()
    order = sorted(ranks, key=lambda name: ranks[name])
    groups, half = _level(order, ranks, critical), (len(order) + 1) // 2
    depth = 1.0 + 0.3 * len(groups)
    figure = Figure(figsize=(7.5, 1.2 + 0.3 * (depth + half)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(f"Mean rank over {len(summary.tasks)} tasks, {summary.title}")
    axes.set(xlim=(0.8, len(order) + 0.2), ylim=(-depth - half - 0.5, 0), yticks=[])
    axes.set_xticks(range(1, len(order) + 1))
    axes.xaxis.tick_top()
    axes.spines[["left", "right", "bottom"]].set_visible(False)
    for place, name in enumerate(order):
        is_left = place < half
        height = -depth - (place if is_left else len(order) - 1 - place)
        end = 0.8 if is_left else len(order) + 0.2
        axes.plot([ranks[name]] * 2 + [end], [0, height, height], "k-", linewidth=0.8)
        side = "right" if is_left else "left"
        axes.text(end, height, f" {name} {ranks[name]:.2f} ", ha=side, va="center")
    for row, (first, last) in enumerate(groups):
        axes.plot([first - 0.04, last + 0.04], [-0.5 - 0.3 * row] * 2, linewidth=4)
    bottom = -depth - half
    axes.plot([1, 1 + critical], [bottom] * 2, "k|-")
    axes.text(1.1 + critical, bottom, "critical difference", va="center")
    return figure


def time_figure(summaries: Sequence[Summary]) -> Any:
    """Draw mean value over mean seconds of each entrant, budgets joined by a line.

    Entrants that lack a task are left out: their means are of other tasks.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    axes = figure.add_subplot()
    points: dict[str, set[tuple[float, float]]] = {}
    for one in summaries:
        for name in one.ranks()[0]:
            facts = one.facts(name)
            points.setdefault(name, set()).add((facts["seconds"], facts["value"]))
    for number, (name, found) in enumerate(points.items()):
        style = f"{'osD^vPX*'[number % 8]}-"
        axes.plot(*zip(*sorted(found), strict=True), style, label=name)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 6)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("seconds of fit and predictions, mean")
    axes.set_ylabel("metric, mean over tasks and draws")
    axes.set_title(f"{summaries[0].shots} labels a class")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def _level(
    order: Sequence[str], ranks: dict[str, float], critical: float
) -> list[tuple[float, float]]:
    """Return both ends of the longest stretches of ranks that are level."""
    groups: list[tuple[float, float]] = []
    for name in order:
        last = max(r for r in ranks.values() if r - ranks[name] < critical)
        if last > ranks[name] and (not groups or last > groups[-1][1]):
            groups.append((ranks[name], last))
    return groups


def _written(figure: Any, results: Path, name: str) -> list[str]:
    paths = [results.with_name(f"{results.stem}-{name}{kind}") for kind in FORMATS]
    for path in paths:
        figure.savefig(path, dpi=150)
    return [f"Wrote {paths[0]} (and {FORMATS[1]})."]
