"""Search spaces: typed dimensions, conditions between them, and points in them.

A `Space` is static and listable: every dimension it can ever have is known before
the first trial. A dimension with conditions is *active* only where they hold; a
`Config` carries the active ones and nothing else.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from fewshot_automl.errors import SpaceError, unknown_name

Value = str | int | float


@dataclass(frozen=True, slots=True)
class When:
    """Holds where another dimension is active and has one of these values."""

    dimension: str
    """Name of a `Choice` that stands earlier in the space."""
    values: tuple[str, ...]
    """The values for which the condition holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Range:
    """What `Float` and `Int` have in common."""

    name: str
    low: float
    high: float
    log: bool = False
    """Whether equal ratios, not equal differences, are equal distances."""
    default: float | None = None
    """A good value known beforehand; the middle of the range if None."""
    when: tuple[When, ...] = ()
    """Conditions, all of which must hold for the dimension to count."""

    def __post_init__(self) -> None:
        """Check the range."""
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise SpaceError(f"Range of {self.name!r} must be finite.")
        if self.low > self.high or (self.log and self.low <= 0):
            raise SpaceError(
                f"Range of {self.name!r} must rise{' from above 0' if self.log else ''}"
                f", got {self.low} to {self.high}."
            )
        if self.default is not None and not self.contains(self.default):
            raise SpaceError(
                f"Default of {self.name!r} must be {self.describe()}, "
                f"got {self.default!r}."
            )

    def encode(self, value: Value) -> float:
        """Return the place of `value` in the unit interval."""
        low, high = self._ends()
        number = math.log(float(value)) if self.log else float(value)
        return (number - low) / (high - low)

    def contains(self, value: object) -> bool:
        """Return whether `value` is allowed."""
        return (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and self.low <= value <= self.high
        )

    def describe(self) -> str:
        """Return the range in words."""
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"

    def _at(self, unit: float) -> float:
        low, high = self._ends()
        value = low + min(max(unit, 0.0), 1.0) * (high - low)
        return math.exp(value) if self.log else value

    def _ends(self) -> tuple[float, float]:
        """Return both ends on the dimension's scale, apart even for a single value."""
        half = 0.499 if isinstance(self, Int) else 0.0
        low, high = self.low - half, self.high + half
        if self.log:
            low, high = math.log(low), math.log(high)
        return (low, high) if high > low else (low - 0.5, low + 0.5)


class Float(_Range):
    """A real dimension in `[low, high]`."""

    __slots__ = ()

    def decode(self, unit: float) -> float:
        """Return the value at a place in the unit interval."""
        return min(max(self._at(unit), self.low), self.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Int(_Range):
    """An integer dimension in `low .. high`, both ends included."""

    low: int
    high: int
    default: int | None = None

    def decode(self, unit: float) -> int:
        """Return the integer nearest to a place in the unit interval."""
        return min(max(round(self._at(unit)), self.low), self.high)

    def contains(self, value: object) -> bool:
        """Return whether `value` is allowed."""
        return isinstance(value, int) and _Range.contains(self, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A dimension with a closed list of options.

    `descriptors` place the options in a space of numbers (for backbones: log
    parameters, log FLOPs, prior rank, ...), so that a surrogate can learn from one
    option about another. The meaning of the numbers stays with whoever made them.
    """

    name: str
    default: str | None = None
    """A good option known beforehand; the first if None."""
    options: tuple[str, ...]
    descriptors: tuple[tuple[float, ...], ...] | None = None
    """One row of numbers for each option, or None."""
    when: tuple[When, ...] = ()
    """Conditions, all of which must hold for the dimension to count."""

    def __post_init__(self) -> None:
        """Check the options."""
        count, rows = len(self.options), self.descriptors
        if not count or len(set(self.options)) != count:
            raise SpaceError(
                f"Options of {self.name!r} must be distinct and at least one, "
                f"got {self.options!r}."
            )
        if self.default is not None and self.default not in self.options:
            raise SpaceError(
                f"Default of {self.name!r} must be one of its options, "
                f"got {self.default!r}."
            )
        if rows is not None and (len(rows) != count or len(set(map(len, rows))) != 1):
            raise SpaceError(
                f"Descriptors of {self.name!r} must have one row of equal length for "
                f"each of its {count} options."
            )

    def encode(self, value: Value) -> float:
        """Return the middle of the option's share of the unit interval."""
        return (self.options.index(str(value)) + 0.5) / len(self.options)

    def decode(self, unit: float) -> str:
        """Return the option in whose share of the unit interval `unit` lies."""
        index = math.floor(min(max(unit, 0.0), 1.0) * len(self.options))
        return self.options[min(index, len(self.options) - 1)]

    def contains(self, value: object) -> bool:
        """Return whether `value` is allowed."""
        return value in self.options

    def describe(self) -> str:
        """Return the options in words."""
        return ", ".join(self.options)


Dimension = Float | Int | Choice


@dataclass(frozen=True, slots=True)
class Config:
    """One point of a space: the values of its active dimensions, by name.

    Hashable, picklable and independent of the order in which values were given.

    >>> config = Config.of({"method": "lora", "rank": 8})
    >>> config["rank"], config.get("temperature", 0.1)
    (8, 0.1)
    """

    items: tuple[tuple[str, Value], ...]
    """Pairs of name and value, sorted by name."""

    @classmethod
    def of(cls, values: Mapping[str, Value]) -> "Config":
        """Return the Config with these values."""
        return cls(tuple(sorted(values.items())))

    def __getitem__(self, name: str) -> Value:
        """Return the value of an active dimension; a SpaceError if it is not."""
        for key, value in self.items:
            if key == name:
                return value
        raise SpaceError(
            f"Config has no active dimension {name!r}; it has {', '.join(self)}."
        )

    def __contains__(self, name: object) -> bool:
        """Return whether a dimension is active."""
        return name in dict(self.items)

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the active dimensions."""
        return (key for key, _ in self.items)

    def get(self, name: str, default: Value) -> Value:
        """Return the value of a dimension, or `default` where it is not active."""
        return dict(self.items).get(name, default)

    def text(self, name: str) -> str:
        """Return the value of an active `Choice`."""
        return str(self[name])

    def number(self, name: str) -> float:
        """Return the value of an active `Float` or `Int` as a float."""
        return float(self[name])

    @property
    def key(self) -> str:
        """Return a short hash of the values, the same on every machine."""
        return hashlib.sha256(json.dumps(self.items).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Value]:
        """Return the values by name."""
        return dict(self.items)

    @classmethod
    def from_json(cls, values: Mapping[str, Value]) -> "Config":
        """Return the Config that `to_json` wrote."""
        return cls.of(values)

    def __str__(self) -> str:
        """Return the values in one line."""
        return " ".join(
            f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in self.items
        )


@dataclass(frozen=True, slots=True)
class Space:
    """A closed list of dimensions, some of them conditional.

    >>> space = Space((
    ...     Choice(name="method", options=("probe", "lora")),
    ...     Int(name="rank", low=1, high=64, log=True,
    ...         when=(When("method", ("lora",)),)),
    ... ))
    >>> space.default().to_json()
    {'method': 'probe'}
    >>> space.decode(np.array([0.9, 0.5])).to_json()
    {'method': 'lora', 'rank': 6}
    """

    dimensions: tuple[Dimension, ...]

    def __post_init__(self) -> None:
        """Check names and conditions."""
        seen: dict[str, Dimension] = {}
        for dimension in self.dimensions:
            if dimension.name in seen:
                raise SpaceError(f"Dimension {dimension.name!r} stands twice.")
            for when in dimension.when:
                parent = seen.get(when.dimension)
                if not isinstance(parent, Choice):
                    raise SpaceError(
                        f"Condition of {dimension.name!r} must name a Choice that "
                        f"stands before it, got {when.dimension!r}."
                    )
                stray = set(when.values) - set(parent.options)
                if stray or not when.values:
                    raise SpaceError(
                        f"Condition of {dimension.name!r} names values that "
                        f"{when.dimension!r} does not have: {sorted(stray)}."
                    )
            seen[dimension.name] = dimension

    def __getitem__(self, name: str) -> Dimension:
        """Return the dimension of that name; an UnknownNameError if there is none."""
        for dimension in self.dimensions:
            if dimension.name == name:
                return dimension
        raise unknown_name("dimension", name, self.names, "fewshot space DATA")

    def __contains__(self, name: object) -> bool:
        """Return whether there is a dimension of that name."""
        return name in self.names

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all dimensions, in order."""
        return tuple(dimension.name for dimension in self.dimensions)

    def is_active(self, dimension: Dimension, values: Mapping[str, Value]) -> bool:
        """Return whether a dimension counts, given the values before it."""
        return all(values.get(when.dimension) in when.values for when in dimension.when)

    def active_mask(self, config: Config) -> Bool[np.ndarray, " dimensions"]:
        """Return which dimensions are active in a Config."""
        return np.array([name in config for name in self.names], dtype=bool)

    def default(self, **fixed: Value) -> Config:
        """Return the Config of all defaults, but for these values where active."""
        values: dict[str, Value] = {}
        for dimension in self.dimensions:
            if self.is_active(dimension, values):
                default = _default_of(dimension)
                values[dimension.name] = fixed.get(dimension.name, default)
        config = Config.of(values)
        self.validate(config)
        return config

    def validate(self, config: Config) -> None:
        """Raise a SpaceError that says why a Config is not in this space, if so."""
        values = config.to_json()
        for dimension in self.dimensions:
            name = dimension.name
            if self.is_active(dimension, values) != (name in values):
                state = "not active" if name in values else "missing"
                raise SpaceError(f"{name!r} is {state} in {config}.")
            if name in values and not dimension.contains(values[name]):
                raise SpaceError(
                    f"{name} must be {dimension.describe()}, got {values[name]!r}."
                )
        if stray := set(values) - set(self.names):
            raise SpaceError(f"Dimensions {sorted(stray)} are not in this space.")

    def contains(self, config: Config) -> bool:
        """Return whether a Config lies in this space."""
        try:
            self.validate(config)
        except SpaceError:
            return False
        return True

    def encode(self, config: Config) -> Float64[np.ndarray, " dimensions"]:
        """Return a Config as a point of the unit cube, one column a dimension.

        Inactive columns hold 0.5; `active_mask` tells them apart.
        """
        values = config.to_json()
        places = [
            d.encode(values[d.name]) if d.name in values else 0.5
            for d in self.dimensions
        ]
        return np.array(places, dtype=np.float64)

    def decode(self, unit: Float64[np.ndarray, " dimensions"]) -> Config:
        """Return the Config at a point of the unit cube, without inactive columns."""
        values: dict[str, Value] = {}
        for dimension, place in zip(self.dimensions, unit, strict=True):
            if self.is_active(dimension, values):
                values[dimension.name] = dimension.decode(float(place))
        return Config.of(values)

    def narrow(self, name: str, values: Sequence[Value]) -> "Space":
        """Return the space with less of one dimension.

        Dimensions that can no longer be active are dropped.

        Args:
            name: The dimension.
            values: Options to keep of a `Choice`; the two ends of a `Float` or `Int`.

        >>> space = Space((Int(name="rank", low=1, high=64, log=True),))
        >>> space.narrow("rank", (4, 16))["rank"].describe()
        '4 to 16 (log)'
        """
        old = self[name]
        new = (
            _with_options(old, list(map(str, values)))
            if isinstance(old, Choice)
            else _with_ends(old, values)
        )
        return Space(_reachable([new if d is old else d for d in self.dimensions]))

    def size(self) -> float:
        """Return the number of different Configs; infinite with an active Float."""
        return self._count(self.dimensions, {})

    def _count(
        self, dimensions: Sequence[Dimension], values: Mapping[str, Value]
    ) -> float:
        """Return in how many ways the last dimensions can follow these values."""
        if not dimensions:
            return 1.0
        first, rest = dimensions[0], dimensions[1:]
        if not self.is_active(first, values):
            return self._count(rest, values)
        if isinstance(first, Choice):
            ways = [{**values, first.name: option} for option in first.options]
            return sum(self._count(rest, way) for way in ways)
        is_real = isinstance(first, Float) and first.high > first.low
        each = math.inf if is_real else first.high - first.low + 1
        return each * self._count(rest, values)

    def to_json(self) -> list[dict[str, Any]]:
        """Return the dimensions as plain JSON values."""
        return [
            {
                "kind": type(dimension).__name__,
                **asdict(dimension),
                "when": {when.dimension: when.values for when in dimension.when},
            }
            for dimension in self.dimensions
        ]

    @classmethod
    def from_json(cls, rows: Sequence[Any]) -> "Space":
        """Return the space that `to_json` wrote; a SpaceError if it did not.

        >>> space = Space((Choice(name="method", options=("probe",)),))
        >>> Space.from_json(space.to_json()) == space
        True
        """
        return cls(tuple(_dimension_of(row) for row in rows))


def _dimension_of(row: Any) -> Dimension:
    """Return the dimension that a row of `Space.to_json` describes."""
    kinds: dict[str, type[Dimension]] = {"Float": Float, "Int": Int, "Choice": Choice}
    try:
        values = {
            **row,
            "when": tuple(When(n, tuple(v)) for n, v in row["when"].items()),
        }
        kind = kinds[values.pop("kind")]
        if kind is Choice:
            rows = row["descriptors"]
            values["options"] = tuple(row["options"])
            values["descriptors"] = rows and tuple(map(tuple, rows))
        return kind(**values)
    except (KeyError, TypeError, AttributeError) as error:
        raise SpaceError(
            f"A dimension must be as Space.to_json writes it, got {row!r} "
            f"({type(error).__name__}: {error}). Write it again."
        ) from error


def _with_options(choice: Choice, options: Sequence[str]) -> Choice:
    for option in options:
        if option not in choice.options:
            hint = "fewshot space DATA"
            raise unknown_name(choice.name, option, choice.options, hint)
    kept = [option in options for option in choice.options]
    rows = choice.descriptors
    return replace(
        choice,
        options=tuple(itertools.compress(choice.options, kept)),
        default=choice.default if choice.default in options else None,
        descriptors=rows and tuple(itertools.compress(rows, kept)),
    )


def _with_ends(dimension: Float | Int, ends: Sequence[Value]) -> Float | Int:
    if len(ends) != 2 or not all(map(dimension.contains, ends)):
        raise SpaceError(
            f"{dimension.name} must be narrowed to two numbers from "
            f"{dimension.describe()}, got {list(ends)}. Give both ends."
        )
    changes: dict[str, Any] = {"low": ends[0], "high": ends[1]}
    default = dimension.default
    if default is not None and not float(ends[0]) <= default <= float(ends[1]):
        changes["default"] = None
    return replace(dimension, **changes)


def _reachable(dimensions: Sequence[Dimension]) -> tuple[Dimension, ...]:
    """Drop condition values that no longer exist, and dimensions never active."""
    kept: dict[str, Dimension] = {}
    for dimension in dimensions:
        conditions = []
        for when in dimension.when:
            parent = kept.get(when.dimension)
            options = parent.options if isinstance(parent, Choice) else ()
            values = tuple(value for value in when.values if value in options)
            conditions.append(When(when.dimension, values))
        if all(when.values for when in conditions):
            kept[dimension.name] = replace(dimension, when=tuple(conditions))
    return tuple(kept.values())


def _default_of(dimension: Dimension) -> Value:
    if dimension.default is not None:
        return dimension.default
    if isinstance(dimension, Choice):
        return dimension.options[0]
    return dimension.decode(0.5)
