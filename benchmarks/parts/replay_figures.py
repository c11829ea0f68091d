"""What the curves of many replays say: means, intervals and paired differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from parts.replay_study import Curve

Interval = tuple[float, float, float]
"""A mean and the ends of its 95 % interval."""
Truth = Literal["unseen", "recorded", "best_seen"]

RESAMPLES = 2000
COSTS = np.linspace(0.0, 40.0, 161)
"""Where regret over cost is read: in mean training trials of the task."""


@dataclass(frozen=True)
class Regrets:
    """The regrets of one row: a line a cell, which is one task and one seed."""

    cells: tuple[tuple[str, int], ...]
    values: np.ndarray
    """`[cells, trials + 1]`; a study that ran out of Configs keeps its last one."""
    seconds: np.ndarray
    """Of the training trials so far, in the same shape."""

    @classmethod
    def of(
        cls, curves: Sequence[Curve], rule: str, trials: int, truth: Truth = "unseen"
    ) -> "Regrets":
        """Return what some curves of one row say under one rule."""
        ordered = sorted(curves, key=lambda curve: (curve.task, curve.seed))

        def padded(values: Sequence[float]) -> list[float]:
            return [*values, *[values[-1]] * (trials + 1 - len(values))]

        values = [
            curve.best_seen if truth == "best_seen" else getattr(curve, truth)[rule]
            for curve in ordered
        ]
        return cls(
            cells=tuple((curve.task, curve.seed) for curve in ordered),
            values=np.array([padded(row) for row in values]),
            seconds=np.array([padded(curve.seconds) for curve in ordered]),
        )

    def shared_with(self, other: "Regrets") -> "Regrets":
        """Return the cells that another row has too."""
        places = [i for i, cell in enumerate(self.cells) if cell in set(other.cells)]
        return Regrets(
            tuple(self.cells[i] for i in places),
            self.values[places],
            self.seconds[places],
        )

    def at_cost(self, costs: np.ndarray, unit: Mapping[str, float]) -> np.ndarray:
        """Return the regret of the last trial that was over at each cost.

        Args:
            costs: Where to read.
            unit: Seconds of a unit of cost in each task.
        """
        rows = []
        for (task, _), values, seconds in zip(
            self.cells, self.values, self.seconds, strict=True
        ):
            places = np.searchsorted(seconds, costs * unit[task], side="right") - 1
            rows.append(values[places])
        return np.array(rows)


def interval(values: np.ndarray, seed: int = 0) -> Interval:
    """Return mean and bootstrap interval of one value a cell.

    Args:
        values: One for each cell; cells are resampled.
        seed: Of the resampling.
    """
    generator = np.random.default_rng(seed)
    drawn = generator.integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), (0.025, 0.975))
    return float(values.mean()), float(low), float(high)


def wide_interval(
    values: np.ndarray, cells: Sequence[tuple[str, int]], seed: int = 0
) -> Interval:
    """Return mean and bootstrap interval over other tasks: tasks, then seeds, drawn.

    Args:
        values: One for each cell.
        cells: Task and seed of each.
        seed: Of the resampling.
    """
    generator = np.random.default_rng(seed)
    tasks = sorted({task for task, _ in cells})
    groups = [
        values[[i for i, (name, _) in enumerate(cells) if name == task]]
        for task in tasks
    ]
    means = np.empty(RESAMPLES)
    for index in range(RESAMPLES):
        chosen = generator.integers(len(groups), size=len(groups))
        parts = [generator.choice(groups[g], size=len(groups[g])) for g in chosen]
        means[index] = np.mean([part.mean() for part in parts])
    low, high = np.quantile(means, (0.025, 0.975))
    return float(np.mean([group.mean() for group in groups])), float(low), float(high)


def band(values: np.ndarray) -> np.ndarray:
    """Return mean, low and high end at each place of many curves."""
    return np.array([interval(column) for column in values.T]).T


def difference(other: Regrets, ours: Regrets, trial: int) -> tuple[Interval, Interval]:
    """Return how much more another row regrets than ours, cell by cell.

    Returns:
        Mean and interval over cells, and over tasks as well.
    """
    left, right = other.shared_with(ours), ours.shared_with(other)
    gaps = left.values[:, trial] - right.values[:, trial]
    return interval(gaps), wide_interval(gaps, left.cells)


def trials_to_reach(ours: Regrets, goal: float) -> int | None:
    """Return after how many training trials the mean regret stays within a goal.

    None if it does not.
    """
    above = np.flatnonzero(ours.values.mean(axis=0) > goal)
    first = int(above[-1]) + 1 if len(above) else 0
    return first if first < ours.values.shape[1] else None


def trials_to_match(ours: Regrets, other: Regrets) -> int | None:
    """Return when our mean regret is at most what the other's is in the end."""
    left, right = ours.shared_with(other), other.shared_with(ours)
    return trials_to_reach(left, float(right.values[:, -1].mean()))


def trials_behind(one: Regrets, other: Regrets, places: Sequence[int]) -> int | None:
    """Return by how many trials one is behind another, at most, at some places.

    That is how many more it needs until its mean regret is at most the lowest that the
    other had so far; None if it never is.
    """
    left, right = one.shared_with(other), other.shared_with(one)
    own, goals = left.values.mean(axis=0), right.values.mean(axis=0)
    most = 0
    for place in places:
        reached = np.flatnonzero(own <= goals[: place + 1].min() + 1e-9)
        if not len(reached):
            return None
        most = max(most, int(reached[0]) - place)
    return most


def cost_to_reach(
    one: Regrets, goal: float, unit: Mapping[str, float], costs: np.ndarray = COSTS
) -> float | None:
    """Return the cost at which the mean regret stays within a goal; None if never."""
    above = np.flatnonzero(one.at_cost(costs, unit).mean(axis=0) > goal)
    first = int(above[-1]) + 1 if len(above) else 0
    return float(costs[first]) if first < len(costs) else None
