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
    left = [name for place, name in enumerate(order) if place < (len(order) + 1) // 2]
    figure = Figure(figsize=(7, 1.6 + 0.28 * len(left)), layout="constrained")
    axes = figure.add_subplot()
    axes.set(
        xlim=(0.9, len(order) + 0.1), ylim=(-0.8 * len(left) - 1.2, 1.4), yticks=[]
    )
    axes.set_title(f"Mean rank over {len(summary.tasks)} tasks, {summary.title}")
    axes.xaxis.tick_top()
    axes.set_xticks(range(1, len(order) + 1))
    axes.spines[["left", "right", "bottom"]].set_visible(False)
    axes.axhline(1.4, color="black", linewidth=1)
    axes.plot([1, 1 + critical], [0.9, 0.9], color="black", marker="|")
    axes.text(
        1 + critical + 0.08, 0.9, f"critical difference {critical:.2f}", va="center"
    )
    groups = _level(order, ranks, critical)
    for place, name in enumerate(order):
        is_left = name in left
        row = place if is_left else len(order) - 1 - place
        height = -0.8 * row - 0.5 - 0.18 * len(groups)
        end = 0.95 if is_left else len(order) + 0.05
        axes.plot([ranks[name]] * 2 + [end], [1.4, height, height], "k-", linewidth=0.8)
        words = f"{name} {ranks[name]:.2f}"
        side = "left" if is_left else "right"
        axes.text(end, height + 0.06, words, ha=side, va="bottom", fontsize=9)
    for row, (first, last) in enumerate(groups):
        axes.plot(
            [ranks[first] - 0.03, ranks[last] + 0.03],
            [0.45 - 0.25 * row] * 2,
            linewidth=3.5,
        )
    return figure


def time_figure(summaries: Sequence[Summary]) -> Any:
    """Draw mean value over mean seconds of each entrant, budgets joined by a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    axes = figure.add_subplot()
    names = dict.fromkeys(name for one in summaries for name in one.entrants)
    for number, name in enumerate(names):
        facts = [one.facts(name) for one in summaries if one.of(name)]
        points = sorted({(row["seconds"], row["value"]) for row in facts})
        if points:
            style = "osD^vPX*"[number % 8] + "-"
            axes.plot(*zip(*points, strict=True), style, label=name)
    axes.set_xscale("log")
    axes.set_xlabel("seconds of fit and predictions, mean")
    axes.set_ylabel(f"{summaries[0].runs[0].metric}, mean over tasks and draws")
    axes.set_title(f"{summaries[0].shots} labels a class")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    return figure


def _level(
    order: Sequence[str], ranks: dict[str, float], critical: float
) -> list[tuple[str, str]]:
    """Return the longest stretches of entrants within the critical difference."""
    groups: list[tuple[int, int]] = []
    for first, name in enumerate(order):
        within = [i for i, x in enumerate(order) if ranks[x] - ranks[name] < critical]
        if within[-1] > first and (not groups or within[-1] > groups[-1][1]):
            groups.append((first, within[-1]))
    return [(order[first], order[last]) for first, last in groups]


def _written(figure: Any, results: Path, name: str) -> list[str]:
    paths = [results.with_name(f"{results.stem}-{name}{kind}") for kind in FORMATS]
    for path in paths:
        figure.savefig(path, dpi=150)
    return [f"Wrote {paths[0]} (and {FORMATS[1]})."]
