"""How alike Configs are, when they come from different spaces."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int64

from fewshot_automl.space import Choice, Config, Float, Int, Space, Value

SPAN = 1.0
"""How unlike the two ends of a number's range are, as a distance."""
OPTION = 1.0
"""How unlike two options without descriptors are."""
IDENTITY = 0.5
"""How unlike two options are for being two, beside their descriptors."""
DESCRIBED = 1.0
"""How unlike two options are whose descriptors all differ by their usual spread."""
FARTHEST = 10.0
"""Ranges from a range's low end beyond which all values are alike: very far."""


class Sheet:
    """Holds Configs as columns by name, whatever space they are of."""

    def __init__(self, configs: Sequence[Config]) -> None:
        self.count = len(configs)
        self._cells: dict[str, list[Value | None]] = {}
        self._numbers: dict[str, Float64[np.ndarray, " configs"]] = {}
        self._options: dict[
            str, tuple[tuple[str, ...], Int64[np.ndarray, " configs"]]
        ] = {}
        for row, config in enumerate(configs):
            for name, value in config.items:
                cells = self._cells.get(name)
                if cells is None:
                    cells = self._cells[name] = [None] * self.count
                cells[row] = value

    def numbers(self, name: str) -> Float64[np.ndarray, " configs"]:
        """Return the numbers of a dimension; NaN where it is inactive or a word."""
        if name not in self._numbers:
            self._numbers[name] = np.array(
                [
                    np.nan if cell is None or isinstance(cell, str) else cell
                    for cell in self._column(name)
                ],
                dtype=np.float64,
            )
        return self._numbers[name]

    def options(
        self, name: str
    ) -> tuple[tuple[str, ...], Int64[np.ndarray, " configs"]]:
        """Return the words of a dimension, and which each Config has; -1 for none."""
        if name not in self._options:
            cells = self._column(name)
            words = tuple(dict.fromkeys(c for c in cells if isinstance(c, str)))
            place = {word: index for index, word in enumerate(words)}
            codes = [place[c] if isinstance(c, str) else -1 for c in cells]
            self._options[name] = words, np.array(codes, dtype=np.int64)
        return self._options[name]

    def _column(self, name: str) -> list[Value | None]:
        return self._cells.get(name) or [None] * self.count


@dataclass(frozen=True)
class Likeness:
    """Places Configs so that distance is unlikeness, in the terms of one space.

    Dimensions are matched by name and kind. What the space does not have is ignored;
    what a Config does not have stands in the middle. An option that the space does
    not have is placed by its descriptors. Without any, nothing can be said of it.

    >>> likeness = Likeness(Space((Float(name="rate", low=0.0, high=2.0),)))
    >>> places, known = likeness.places(Sheet([Config.of({"rate": 2.0, "odd": 1})]))
    >>> places.tolist(), known.tolist()
    ([[1.0]], [True])
    """

    space: Space
    """Whose dimensions count."""

    def places(
        self, sheet: Sheet, other: Space | None = None
    ) -> tuple[Float64[np.ndarray, "configs columns"], Bool[np.ndarray, " configs"]]:
        """Return where Configs stand, and of which anything can be said.

        Args:
            sheet: The Configs.
            other: Their space, which describes the options that ours has not; None
                if it is ours.
        """
        columns = [np.empty((sheet.count, 0))]
        known = np.ones(sheet.count, dtype=bool)
        for dimension in self.space.dimensions:
            if isinstance(dimension, Choice):
                words, codes = sheet.options(dimension.name)
                table, is_known = self._of_words(dimension, words, other)
                columns.append(table[codes])
                known &= is_known[codes]
            elif dimension.high > dimension.low:
                columns.append(_along(dimension, sheet.numbers(dimension.name)))
        return np.hstack(columns), known

    def _of_words(
        self, choice: Choice, words: Sequence[str], other: Space | None
    ) -> tuple[Float64[np.ndarray, "words columns"], Bool[np.ndarray, " words"]]:
        """Return a row for each option, and a last one for where there is none."""
        described = self._described.get(choice.name)
        apart = OPTION if described is None else IDENTITY
        same = np.zeros((len(words) + 1, len(choice.options)))
        known = np.ones(len(words) + 1, dtype=bool)
        numbers = [np.zeros(0 if described is None else described.width)] * len(same)
        for row, word in enumerate(words):
            if word in choice.options:
                same[row, choice.options.index(word)] = apart / np.sqrt(2)
            if described is None:
                known[row] = word in choice.options
                continue
            facts = _facts(choice, word) or _facts_in(other, choice.name, word)
            known[row] = facts is not None and len(facts) == described.width
            if known[row]:
                numbers[row] = described.place(np.array(facts, dtype=np.float64))
        return np.hstack([same, np.stack(numbers)]), known

    @cached_property
    def _described(self) -> dict[str, "_Described"]:
        return {
            dimension.name: _Described.of(dimension.descriptors)
            for dimension in self.space.dimensions
            if isinstance(dimension, Choice) and dimension.descriptors
        }


@dataclass(frozen=True, slots=True)
class _Described:
    """Holds what descriptors are compared by: their middle and spread over options."""

    middle: Float64[np.ndarray, " descriptors"]
    spread: Float64[np.ndarray, " descriptors"]

    @classmethod
    def of(cls, rows: Sequence[Sequence[float]]) -> "_Described":
        """Return middle and spread; a spread below 1 counts as 1.

        Where all options are nearly alike, a slight difference is no great one.
        """
        table = np.array(rows, dtype=np.float64)
        known = np.isfinite(table)
        count = np.maximum(known.sum(axis=0), 1)
        middle = np.where(known, table, 0.0).sum(axis=0) / count
        squares = np.square(np.where(known, table - middle, 0.0)).sum(axis=0)
        return cls(middle, np.maximum(np.sqrt(squares / count), 1.0))

    @property
    def width(self) -> int:
        """Return how many descriptors an option has."""
        return len(self.middle)

    def place(
        self, facts: Float64[np.ndarray, " descriptors"]
    ) -> Float64[np.ndarray, " descriptors"]:
        """Return coordinates; what is not known stands in the middle."""
        away = np.where(np.isfinite(facts), facts - self.middle, 0.0) / self.spread
        size = DESCRIBED / np.sqrt(max(self.width, 1))
        return np.asarray(size * np.clip(away, -FARTHEST, FARTHEST))


def _along(
    dimension: Float | Int, numbers: Float64[np.ndarray, " configs"]
) -> Float64[np.ndarray, "configs 1"]:
    """Return where numbers stand in a range that is not a single value."""
    low, high = float(dimension.low), float(dimension.high)
    if dimension.log:
        numbers = np.log(np.where(numbers > 0, numbers, np.nan))
        low, high = np.log(low), np.log(high)
    places = np.clip((numbers - low) / (high - low), -FARTHEST, FARTHEST)
    return SPAN * np.where(np.isnan(places), 0.5, places)[:, None]


def _facts_in(space: Space | None, name: str, option: str) -> tuple[float, ...] | None:
    if space is None or name not in space:
        return None
    choice = space[name]
    return _facts(choice, option) if isinstance(choice, Choice) else None


def _facts(choice: Choice, option: str) -> tuple[float, ...] | None:
    """Return the descriptors of an option, None if the choice has none of it."""
    if choice.descriptors is None or option not in choice.options:
        return None
    return choice.descriptors[choice.options.index(option)]
