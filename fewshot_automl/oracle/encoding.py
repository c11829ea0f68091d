"""Configs as rows of numbers that a surrogate can compare."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64

from fewshot_automl.errors import SpaceError
from fewshot_automl.space import Choice, Config, Dimension, Float, Int, Space

UNIFORM_DEVIATION = 1 / math.sqrt(12)
"""Standard deviation of the unit interval; descriptors are brought to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Says what the columns of an encoded Config mean.

    The columns are, from left to right: continuous ones, categorical ones, one
    activity flag (0 or 1) for each conditional group, and advice. A *group* is all
    dimensions under the same conditions, so that they are active together; group 0 is
    always active and has no flag.
    """

    continuous: tuple[int, ...]
    """Group of each continuous column: numbers, and descriptors of options."""
    categorical: tuple[int, ...]
    """Group of each categorical column, which holds an option's index."""
    groups: int
    """Number of groups, the always active one included."""
    advice: tuple[tuple[float, float], ...] = ()
    """Mean and standard deviation of the weight of each column of advice."""

    @property
    def width(self) -> int:
        """Return the number of columns."""
        numbers = len(self.continuous) + len(self.categorical)
        return numbers + self.groups - 1 + len(self.advice)

    @property
    def flags(self) -> slice:
        """Return where the activity flags stand."""
        first = len(self.continuous) + len(self.categorical)
        return slice(first, first + self.groups - 1)

    @property
    def advised(self) -> slice:
        """Return where the columns of advice stand."""
        return slice(self.width - len(self.advice), self.width)

    def columns(self, group: int) -> tuple[list[int], list[int]]:
        """Return the continuous and the categorical columns of a group."""
        first = len(self.continuous)
        numbers = [i for i, g in enumerate(self.continuous) if g == group]
        options = [first + i for i, g in enumerate(self.categorical) if g == group]
        return numbers, options


class Encoding:
    """Turns the Configs of one space into rows of numbers.

    A number becomes its place in the unit interval (on its log scale where it has
    one). An option becomes its index and, with descriptors, one continuous column for
    each descriptor that differs between options, centred on 0.5 and as spread as the
    unit interval. Inactive columns hold 0.5 or -1 and their group's flag is 0.

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
        self._rows: dict[Config, list[float] | None] = {}
        conditions = [_conditions(space, d) for d in space.dimensions]
        self._descriptors = {
            d.name: _spread(d).tolist()
            for d in space.dimensions
            if isinstance(d, Choice)
        }
        widths = [self._columns_of(d) for d in space.dimensions]
        kept = [c for c, w in zip(conditions, widths, strict=True) if sum(w)]
        self._groups = list(dict.fromkeys([(), *kept]))
        group_of = [
            self._groups.index(c) if c in self._groups else 0 for c in conditions
        ]
        self._columns = list(zip(space.dimensions, group_of, widths, strict=True))

    @cached_property
    def layout(self) -> Layout:
        """Return the meaning of the columns."""
        return Layout(
            continuous=tuple(g for _, g, (w, _) in self._columns for _ in range(w)),
            categorical=tuple(g for _, g, (_, s) in self._columns for _ in range(s)),
            groups=len(self._groups),
        )

    def knows(self, config: Config) -> bool:
        """Return whether a Config can be encoded.

        Numbers may lie outside the range of their dimension (the space may have been
        narrowed since); names and options must be known, and the dimensions that are
        there must be the active ones.
        """
        return self._row(config) is not None

    def encode(
        self, configs: Sequence[Config]
    ) -> Float64[np.ndarray, "configs columns"]:
        """Return one row for each Config; see `Layout` for the columns.

        Raises:
            SpaceError: If a Config cannot be encoded (see `knows`).
        """
        rows = [self._row(config) for config in configs]
        for row, config in zip(rows, configs, strict=True):
            if row is None:
                raise SpaceError(
                    f"Config must have known names and options, got {config}. "
                    "Leave it out of what is encoded."
                )
        return np.array(rows, dtype=np.float64).reshape(-1, self.layout.width)

    def _row(self, config: Config) -> list[float] | None:
        """Return the row of a Config, None where it cannot be encoded."""
        if config not in self._rows:
            self._rows[config] = self._new_row(config)
        return self._rows[config]

    def _new_row(self, config: Config) -> list[float] | None:
        continuous: list[float] = []
        categorical: list[float] = []
        flags = [0.0] * len(self._groups)
        values = config.to_json()
        left = len(values)
        for dimension, group, (wide, split) in self._columns:
            value = values.get(dimension.name)
            if (value is not None) != self.space.is_active(dimension, values):
                return None
            if value is None:
                continuous += [0.5] * wide
                categorical += [-1.0] * split
                continue
            if not _is_known(dimension, value):
                return None
            left -= 1
            if wide or split:
                flags[group] = 1.0
            if isinstance(dimension, Choice):
                index = dimension.options.index(str(value))
                continuous += self._descriptors[dimension.name][index]
                categorical += [float(index)] * split
            else:
                continuous.append(dimension.encode(value))
        return None if left else [*continuous, *categorical, *flags[1:]]

    def _columns_of(self, dimension: Dimension) -> tuple[int, int]:
        """Return how many continuous and categorical columns a dimension has."""
        if not isinstance(dimension, Choice):
            return 1, 0
        return len(self._descriptors[dimension.name][0]), len(dimension.options) > 1


def dissimilarity(
    layout: Layout,
    left: Float64[np.ndarray, "left columns"],
    right: Float64[np.ndarray, "right columns"],
) -> Float64[np.ndarray, "left right"]:
    """Return the mean squared difference over the columns that count for a pair.

    A column counts where it is active on either side. Different options differ by 1,
    and so does a column that is active on one side only.
    """
    from scipy.spatial.distance import cdist  # here, for a quick start elsewhere

    on = [activity(layout, rows).astype(np.float64) for rows in (left, right)]
    widths = np.array(
        [sum(map(len, layout.columns(group))) for group in range(layout.groups)]
    )
    sizes = [flags @ widths for flags in on]
    both = (on[0] * widths) @ on[1].T
    counted = sizes[0][:, None] + sizes[1] - both
    gaps = counted - both
    for group in range(layout.groups):
        numbers, options = layout.columns(group)
        chosen = [np.flatnonzero(flags[:, group]) for flags in on]
        near, far = left[chosen[0]], right[chosen[1]]
        block = cdist(near[:, numbers], far[:, numbers], "sqeuclidean")
        for column in options:
            block += near[:, column, None] != far[:, column]
        gaps[np.ix_(*chosen)] += block
    return np.asarray(gaps / np.maximum(counted, 1), dtype=np.float64)


def activity(
    layout: Layout, rows: Float64[np.ndarray, "rows columns"]
) -> Bool[np.ndarray, "rows groups"]:
    """Return which groups are active in each row."""
    flags = rows[:, layout.flags] > 0.5
    return np.hstack([np.ones((len(rows), 1), dtype=bool), flags])


def _conditions(
    space: Space, dimension: Dimension
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the conditions that can fail, in a form that equal ones share."""
    conditions: set[tuple[str, tuple[str, ...]]] = set()
    for when in dimension.when:
        parent = space[when.dimension]
        assert isinstance(parent, Choice)
        above = _conditions(space, parent)
        if set(when.values) < set(parent.options):
            conditions.add((when.dimension, tuple(sorted(when.values))))
        else:
            conditions.update(above)
    return tuple(sorted(conditions))


def _spread(choice: Choice) -> Float64[np.ndarray, "options descriptors"]:
    """Return the descriptors, standardised over the options; constant ones dropped.

    What is not known (NaN) stands at the mean of what is.
    """
    table = np.array(choice.descriptors or [()] * len(choice.options), dtype=np.float64)
    table = table.reshape(len(choice.options), -1)
    known = np.isfinite(table)
    mean = np.where(known, table, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    centred = np.where(known, table - mean, 0.0)
    deviation = centred.std(axis=0)
    differs = deviation > 1e-9 * np.maximum(np.abs(mean), 1e-9)
    scaled = UNIFORM_DEVIATION * centred[:, differs] / deviation[differs]
    return np.asarray(0.5 + scaled, dtype=np.float64)


def _is_known(dimension: Dimension, value: object) -> bool:
    if isinstance(dimension, Choice):
        return dimension.contains(value)
    assert isinstance(dimension, Float | Int)
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and (value > 0 or not dimension.log)
    )
