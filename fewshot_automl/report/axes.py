"""Axes of small drawings: where a value stands, and where the ticks go."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fewshot_automl.report.words import Number

NICE = (1.0, 2.0, 2.5, 5.0, 10.0)
"""Steps between ticks, times a power of ten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Maps values to places in a drawing.

    >>> axis = Axis(low=0.0, high=1.0, start=100.0, end=200.0)
    >>> axis.place(0.25), axis.place(7.0)
    (125.0, 200.0)
    """

    low: Number
    """The value at `start`."""
    high: Number
    """The value at `end`; greater than `low`."""
    start: Number
    """Where in the drawing `low` stands, in pixels."""
    end: Number
    """Where in the drawing `high` stands; before `start` on an axis that rises."""
    log: bool = False
    """Whether equal ratios are equal distances."""

    def place(self, value: Number) -> float:
        """Return where a value stands; beyond an end it stands at that end."""
        ends = [self.low, self.high]
        if self.log:
            value, *ends = (math.log(max(each, 1e-12)) for each in (value, *ends))
        return round(float(np.interp(value, ends, [self.start, self.end])), 1)

    def ticks(self, about: int = 5) -> tuple[float, ...]:
        """Return round values on the axis.

        >>> Axis(low=0.42, high=0.97, start=0, end=9).ticks()
        (0.5, 0.6, 0.7, 0.8, 0.9)
        >>> Axis(low=0.3, high=200.0, start=0, end=9, log=True).ticks()
        (1.0, 10.0, 100.0)
        """
        if self.log and self.high / self.low > 10**1.5:
            first, last = _inside(math.log10(self.low), math.log10(self.high))
            skip = max(math.ceil((last - first) / about), 1)
            return tuple(10.0**power for power in range(first, last + 1, skip))
        span = self.high - self.low
        power = 10.0 ** math.floor(math.log10(span / about))
        step = next(power * nice for nice in NICE if span / (power * nice) <= about + 1)
        first, last = _inside(self.low / step, self.high / step)
        return tuple(float(f"{k * step:.15g}") for k in range(first, last + 1))


def _inside(low: float, high: float) -> tuple[int, int]:
    """Return the least and the greatest whole number between two others."""
    return math.ceil(low - 1e-9), math.floor(high + 1e-9)


def around(
    values: Iterable[Number], limits: tuple[Number, Number], margin: float = 0.06
) -> tuple[float, float]:
    """Return a range that holds all finite values with room, within the limits.

    >>> around([0.5, 0.9, float("nan")], (0.0, 1.0), margin=0.25)
    (0.4, 1.0)
    """
    known = [float(value) for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    room = (high - low) * margin or 0.05
    return max(low - room, float(min(limits))), min(high + room, float(max(limits)))
