"""The picture of the replays: regret over trials and over cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from parts.replay_figures import COSTS, Regrets, band

mpl.use("Agg")
COLOURS = (
    "#0072b2",
    "#56b4e9",
    "#000000",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#7f7f7f",
    "#8c564b",
    "#17becf",
    "#bcbd22",
    "#9467bd",
)
LABELLED = "normalised simple regret on unseen rows"


def draw(
    rows: Mapping[str, Regrets],
    main: Sequence[str],
    ablations: Sequence[str],
    *,
    floor: float | None,
    unit: Mapping[str, float],
    title: str,
    file: Path,
) -> None:
    """Draw means with 95 % bands; rows that are not there are left out.

    Args:
        rows: The regrets by row.
        main: Rows of the first two panels, ours first.
        ablations: Rows of the third panel, ours first.
        floor: Regret of a search that had tried everything; None for no line.
        unit: Seconds of a mean dear trial in each task.
        title: Above all panels.
        file: Where the PNG goes.
    """
    from matplotlib import pyplot as plt

    main = [row for row in main if row in rows]
    ablations = [row for row in ablations if row in rows]
    panels = 2 + (len(ablations) > 1)
    figure, axes = plt.subplots(
        1, panels, figsize=(5.6 * panels, 4.8), sharey=True, layout="constrained"
    )
    trials = rows[main[0]].values.shape[1] - 1
    for row, colour in zip(main, COLOURS, strict=False):
        values = rows[row].values
        _line(axes[0], np.arange(trials + 1), values, row, colour)
        costs = COSTS[trials >= COSTS]
        _line(axes[1], costs, rows[row].at_cost(costs, unit), row, colour)
    for row, colour in zip(ablations, COLOURS, strict=False):
        axes[2].set_title("ablations")
        _line(axes[2], np.arange(trials + 1), rows[row].values, row, colour)
    for axis in axes:
        axis.axhline(0.05, color="0.6", linewidth=0.8, linestyle=":")
        if floor is not None:
            axis.axhline(floor, color="0.4", linewidth=0.8, linestyle="--")
            axis.text(
                axis.get_xlim()[1], floor, "everything tried ", ha="right", va="bottom",
                fontsize=8, color="0.4",
            )  # fmt: skip
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.25)
        axis.set_xlabel("dear trials")
        axis.legend(fontsize=8, frameon=False)
    axes[1].set_xlabel("cost, in mean dear trials of the task")
    axes[0].set_ylabel(LABELLED)
    figure.suptitle(title, fontsize=10)
    figure.savefig(file, dpi=130, metadata={"Software": ""})
    plt.close(figure)


def _line(axis: Any, places: np.ndarray, values: np.ndarray, row: str, c: str) -> None:
    mean, low, high = band(values)
    is_first = not axis.lines
    axis.plot(places, mean, label=row, color=c, linewidth=2.2 if is_first else 1.4)
    axis.fill_between(places, low, high, color=c, alpha=0.12, linewidth=0)
