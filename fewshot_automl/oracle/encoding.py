"""Configs as rows of numbers that a surrogate can compare."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from fewshot_automl.space import Choice, Config, Dimension, Space

UNIFORM_DEVIATION = 1 / math.sqrt(12)
"""Standard deviation of the unit interval; descriptors are brought to it."""

Rows = Float64[np.ndarray, "_ _"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Says what the columns of an encoded Config mean.

    From left to right: continuous columns, categorical ones, and one activity flag
    (0 or 1) for each conditional group. A *group* is all dimensions under the same
    conditions; group 0 is always active and has no flag.
    """

    continuous: tuple[int, ...]
    """Group of each continuous column: numbers, and descriptors of options."""
    categorical: tuple[int, ...]
    """Group of each column of an option's index, -1 where it is inactive."""
    options: tuple[int, ...]
    """Number of options of each categorical column."""
    groups: int
    """Number of groups, the always active one included."""

    @property
    def width(self) -> int:
        """Return the number of columns."""
        return len(self.continuous) + len(self.categorical) + self.groups - 1

    def separated(self, rows: Rows) -> tuple[Rows, Rows]:
        """Return the continuous columns, and a column of 0 and 1 for each option."""
        first = len(self.continuous)
        columns = [np.zeros((len(rows), 0))]
        for place, count in enumerate(self.options, first):
            columns.append(rows[:, place, None] == np.arange(count))
        return rows[:, :first], np.hstack(columns)


class Encoding:
    """Turns the Configs of one space into rows of numbers.

    A number becomes its place in the unit interval. An option becomes its index and,
    with descriptors, one continuous column for each that differs between options,
    centred on 0.5 and as spread as the unit interval. Inactive columns hold 0.5 or -1.

    >>> from fewshot_automl.space import Float
    >>> space = Space((
    ...     Choice(name="size", options=("s", "l"), descriptors=((1.0,), (3.0,))),
    ...     Float(name="rate", low=1e-4, high=1e-2, log=True),
    ... ))
    >>> rows = Encoding(space).encode([Config.of({"size": "l", "rate": 1e-3})])
    >>> rows.round(2).tolist()
    [[0.79, 0.5, 1.0]]
    """

    def __init__(self, space: Space) -> None:
        """Work out which columns the dimensions of `space` have."""
        self.space = space
        conditions = [_conditions(space, d) for d in space.dimensions]
        groups = list(dict.fromkeys([(), *conditions]))
        self._groups = [groups.index(one) for one in conditions]
        self._tables = [_descriptors(d) for d in space.dimensions]
        pairs = list(zip(space.dimensions, self._groups, self._tables, strict=True))
        choices = [(d, g) for d, g, _ in pairs if isinstance(d, Choice)]
        split = [(len(d.options), g) for d, g in choices if len(d.options) > 1]
        self.layout = Layout(
            continuous=tuple(g for _, g, table in pairs for _ in table[0]),
            categorical=tuple(g for _, g in split),
            options=tuple(count for count, _ in split),
            groups=len(groups),
        )

    def encode(self, configs: Sequence[Config]) -> Rows:
        """Return one row for each Config, all of which lie in the space."""
        width = len(self.space.dimensions)
        units = np.array([self.space.encode(c) for c in configs]).reshape(-1, width)
        on = np.array([self.space.active_mask(c) for c in configs]).reshape(-1, width)
        continuous, categorical = [], []
        flags = np.zeros((len(configs), self.layout.groups))
        for place, dimension in enumerate(self.space.dimensions):
            unit, active, table = units[:, place], on[:, place], self._tables[place]
            flags[:, self._groups[place]] = active
            if not isinstance(dimension, Choice):
                continuous.append(unit[:, None])
                continue
            index = np.floor(unit * len(dimension.options)).astype(int)
            continuous.append(np.where(active[:, None], table[index], 0.5))
            if len(dimension.options) > 1:
                categorical.append(np.where(active, index, -1)[:, None])
        return np.hstack([*continuous, *categorical, flags[:, 1:]])


def _conditions(space: Space, dimension: Dimension) -> tuple[object, ...]:
    """Return the conditions that can fail, in a form that equal ones share."""
    conditions: set[object] = set()
    for when in dimension.when:
        parent = space[when.dimension]
        if isinstance(parent, Choice) and set(when.values) < set(parent.options):
            conditions.add((when.dimension, *sorted(when.values)))
        else:
            conditions.update(_conditions(space, parent))
    return tuple(sorted(conditions, key=str))


def _descriptors(dimension: Dimension) -> Rows:
    """Return the descriptors, standardised over the options; constant ones dropped.

    What is not known (NaN) stands at the mean of what is. A number has one column.
    """
    if not isinstance(dimension, Choice):
        return np.full((1, 1), 0.5)
    rows = dimension.descriptors or [()] * len(dimension.options)
    table = np.array(rows, dtype=np.float64).reshape(len(rows), -1)
    known = np.isfinite(table)
    mean = np.where(known, table, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    centred = np.where(known, table - mean, 0.0)
    deviation = centred.std(axis=0)
    differs = deviation > 1e-9 * np.maximum(np.abs(mean), 1e-9)
    scaled = UNIFORM_DEVIATION * centred[:, differs] / deviation[differs]
    return np.asarray(0.5 + scaled)
