"""The picture of the replays: regret over trials and over cost."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from parts.replay_figures import COSTS, Regrets, band

mpl.use("Agg")
COLOURS = (
    "#0072b2",
    "#d55e00",
    "#000000",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#7f7f7f",
    "#8c564b",
    "#17becf",
    "#bcbd22",
    "#9467bd",
)
LABELLED = "normalised simple regret on unseen rows"
GOAL = 0.05


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

    Of the ablations only ours has a band: a dozen of them hide each other.

    Args:
        rows: The regrets by row.
        main: Rows of the first two panels, ours first.
        ablations: Rows of the third panel, ours first.
        floor: Regret of a search that had tried everything; None for no line.
        unit: Seconds of a mean training trial in each task.
        title: Above all panels.
        file: Where the PNG goes.
    """
    from matplotlib import pyplot as plt

    trials = next(iter(rows.values())).values.shape[1] - 1
    counts, costs = np.arange(trials + 1), COSTS[trials >= COSTS]
    panels: list[tuple[str, np.ndarray, Sequence[str], Callable[..., Any]]] = [
        ("training trials", counts, main, lambda one: one.values),
        (
            "cost, in mean training trials of the task",
            costs,
            main,
            lambda one: one.at_cost(costs, unit),
        ),
        ("training trials (ablations)", counts, ablations, lambda one: one.values),
    ]
    shown = [panel for panel in panels if sum(row in rows for row in panel[2]) > 1]
    figure, axes = plt.subplots(
        1,
        max(len(shown), 1),
        figsize=(5.6 * max(len(shown), 1), 4.8),
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    for axis, (label, places, names, read) in zip(axes[0], shown, strict=False):
        present = [row for row in names if row in rows]
        for row, colour in zip(present, COLOURS, strict=False):
            is_banded = names is main or row == present[0]
            _line(axis, places, read(rows[row]), row, colour, is_banded=is_banded)
        axis.axhline(GOAL, color="0.6", linewidth=0.8, linestyle=":")
        if floor is not None:
            style = {"color": "0.4", "linewidth": 0.8, "linestyle": "--"}
            axis.axhline(floor, label="everything tried", **style)
        axis.set_xlim(0, places[-1])
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.25)
        axis.set_xlabel(label)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(fontsize=8, frameon=False)
    axes[0, 0].set_ylabel(LABELLED)
    figure.suptitle(title, fontsize=10)
    figure.savefig(file, dpi=130, metadata={"Software": ""})
    plt.close(figure)


def _line(
    axis: Any,
    places: np.ndarray,
    values: np.ndarray,
    row: str,
    c: str,
    *,
    is_banded: bool,
) -> None:
    mean, low, high = band(values)
    is_first = not axis.lines
    axis.plot(places, mean, label=row, color=c, linewidth=2.4 if is_first else 1.3)
    if is_banded:
        axis.fill_between(places, low, high, color=c, alpha=0.10, linewidth=0)
