"""Configs as rows of numbers that a surrogate can compare."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from fewshot_automl.space import Choice, Config, Dimension, Float, Int, Space

UNIFORM_DEVIATION = 1 / math.sqrt(12)
"""Standard deviation of the unit interval; descriptors are brought to it."""

Conditions = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Says what the columns of an encoded Config mean.

    From left to right: continuous columns, categorical ones, and one activity flag
    (0 or 1) for each conditional group. A *group* is all dimensions under the same
    conditions, so that they are active together; group 0 is always active and has no
    flag.
    """

    continuous: tuple[int, ...]
    """Group of each continuous column: numbers, and descriptors of options."""
    categorical: tuple[int, ...]
    """Group of each categorical column, which holds an option's index, -1 where it is
    inactive."""
    options: tuple[int, ...]
    """Number of options of each categorical column."""
    groups: int
    """Number of groups, the always active one included."""

    @property
    def width(self) -> int:
        """Return the number of columns."""
        return len(self.continuous) + len(self.categorical) + self.groups - 1


class Encoding:
    """Turns the Configs of one space into rows of numbers.

    A number becomes its place in the unit interval (on its log scale where it has
    one). An option becomes its index and, with descriptors, one continuous column for
    each descriptor that differs between options, centred on 0.5 and as spread as the
    unit interval. Inactive columns hold 0.5 or -1.

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
        self._descriptors = {
            d.name: _spread(d).tolist()
            for d in space.dimensions
            if isinstance(d, Choice)
        }
        conditions = [_conditions(space, d) for d in space.dimensions]
        widths = [self._columns_of(d) for d in space.dimensions]
        kept = [c for c, w in zip(conditions, widths, strict=True) if sum(w)]
        groups = list(dict.fromkeys([(), *kept]))
        group_of = [groups.index(c) if c in groups else 0 for c in conditions]
        self._columns = list(zip(space.dimensions, group_of, widths, strict=True))
        self.layout = Layout(
            continuous=tuple(g for _, g, (w, _) in self._columns for _ in range(w)),
            categorical=tuple(g for _, g, (_, s) in self._columns for _ in range(s)),
            options=tuple(
                len(d.options)
                for d, _, (_, s) in self._columns
                if isinstance(d, Choice) and s
            ),
            groups=len(groups),
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
        """Return one row for each Config, all of which must be known."""
        rows = [self._row(config) for config in configs]
        return np.array(rows, dtype=np.float64).reshape(-1, self.layout.width)

    def _row(self, config: Config) -> list[float] | None:
        if config not in self._rows:
            self._rows[config] = self._new_row(config)
        return self._rows[config]

    def _new_row(self, config: Config) -> list[float] | None:
        continuous: list[float] = []
        categorical: list[float] = []
        flags = [0.0] * self.layout.groups
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


def _conditions(space: Space, dimension: Dimension) -> Conditions:
    """Return the conditions that can fail, in a form that equal ones share."""
    conditions: set[tuple[str, tuple[str, ...]]] = set()
    for when in dimension.when:
        parent = space[when.dimension]
        assert isinstance(parent, Choice)
        if set(when.values) < set(parent.options):
            conditions.add((when.dimension, tuple(sorted(when.values))))
        else:
            conditions.update(_conditions(space, parent))
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
