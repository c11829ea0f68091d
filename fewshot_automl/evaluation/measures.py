"""What a model costs and owes besides its score: size, speed, its weakest class."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

SCORE: Final = "score"
"""Name of the metric of a study among what it improves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One quantity that every trial measures beside its score."""

    name: str
    """In `Outcome.measures` and on the command line."""
    title: str
    """For people."""
    meaning: str
    """One clause."""
    unit: str = ""
    """Written behind a value."""
    is_maximised: bool = False
    """Whether more is better."""
    adds_up: bool = True
    """Whether several models together have the sum of theirs."""
    is_count: bool = False
    """Whether it is written with a letter for thousands, millions and more."""

    @property
    def limit(self) -> str:
        """Return the name of the setting that bounds it."""
        return f"{'min' if self.is_maximised else 'max'}_{self.name}"

    def format(self, value: float) -> str:
        """Return a value as people read it.

        >>> MEASURES["parameters"].format(22_713_216.0)
        '22.7M'
        """
        for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
            if self.is_count and value >= size:
                return f"{value / size:.3g}{letter}"
        return f"{value:.3g}{self.unit and ' ' + self.unit}"


_ROWS: Final = (
    Measure(
        name="parameters",
        title="parameters",
        meaning="numbers the model holds: backbone, adapter and head",
        is_count=True,
    ),
    Measure(
        name="flops",
        title="operations",
        meaning="floating-point operations of the backbone for one example of the "
        "length on its card",
        is_count=True,
    ),
    Measure(
        name="latency_ms",
        title="latency",
        unit="ms",
        meaning="median time to predict one example alone, on the machine and device "
        "of the study",
    ),
    Measure(
        name="memory_mb",
        title="memory",
        unit="MB",
        meaning="millions of bytes that the weights take; a prediction adds its own",
    ),
    Measure(
        name="worst_recall",
        title="worst recall",
        meaning="least share of a class's examples that is found, cross-validated",
        is_maximised=True,
        adds_up=False,
    ),
)
MEASURES: Final[Mapping[str, Measure]] = {row.name: row for row in _ROWS}
"""Every measure by name."""


def added_up(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the measures of models that predict together, as far as they add up."""
    every = list(parts)
    return {
        name: float(sum(part[name] for part in every))
        for name, row in MEASURES.items()
        if row.adds_up and all(name in part for part in every)
    }


def greatest(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the measures of models on one backbone: beside it heads are nothing."""
    every = list(parts)
    known = set.intersection(*(set(part) for part in every))
    return {name: max(part[name] for part in every) for name in known}
