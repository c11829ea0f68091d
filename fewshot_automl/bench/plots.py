"""Pictures of a comparison, beside its results."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from fewshot_automl.bench.summary import Summary


def draw_all(summaries: Sequence[Summary], results: Path) -> list[str]:
    """Draw all plots; return a sentence on each, or on why there is none."""
    if find_spec("matplotlib") is None:
        return ["No plots, for matplotlib is not installed: pip install matplotlib"]
    summaries = [summary for summary in summaries if summary.ranks()[0]]
    figures = {
        f"{shots}-seconds": time_figure([s for s in summaries if s.shots == shots])
        for shots in dict.fromkeys(summary.shots for summary in summaries)
    }
    figures |= {
        f"{one.shots}-{one.budget:g}s-ranks": rank_figure(one)
        for one in summaries
        if len(one.ranks()[0]) > 2
    }
    said = []
    for name, figure in figures.items():
        path = results.with_name(f"{results.stem}-{name}.png")
        figure.savefig(path, dpi=150)
        said.append(f"Wrote {path}.")
    return said


def rank_figure(summary: Summary) -> Any:
    """Draw mean ranks; entrants whose bars overlap cannot be told apart.

    Source:
        Demsar, JMLR 7 (2006), Nemenyi's critical difference: a bar is as long.
    """
    from matplotlib.figure import Figure

    ranks, critical, _ = summary.ranks()
    names = sorted(ranks, key=lambda name: -ranks[name])
    figure = Figure(figsize=(6.5, 1.4 + 0.3 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    values = [ranks[name] for name in names]
    axes.errorbar(values, names, xerr=critical / 2, fmt="o", capsize=4)
    axes.set_xlabel(f"mean rank over {len(summary.means())} tasks, {summary.title}")
    axes.set_title(f"Level where bars overlap (critical difference {critical:.2f})")
    axes.margins(y=0.15)
    axes.grid(axis="x", alpha=0.3)
    return figure


def time_figure(summaries: Sequence[Summary]) -> Any:
    """Draw mean value over mean seconds of each entrant, budgets joined by a line.

    Entrants that lack a task are left out: their means are of other tasks.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    axes = figure.add_subplot(xscale="log")
    points = pd.concat([one.facts().loc[[*one.ranks()[0]]] for one in summaries])
    for number, (name, found) in enumerate(points.groupby(level=0, sort=False)):
        style = f"{'osD^vPX*'[number % 8]}-"
        found = found.sort_values("seconds")
        axes.plot(found["seconds"], found["value"], style, label=str(name))
    axes.set_xlabel("seconds of fit and predictions, mean")
    axes.set_ylabel("metric, mean over tasks and draws")
    axes.set_title(f"{summaries[0].shots} labels a class")
    for formatted in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        formatted("{x:g}")  # and no powers of ten
    axes.grid(which="both", alpha=0.3)
    axes.legend(fontsize=8)
    return figure
