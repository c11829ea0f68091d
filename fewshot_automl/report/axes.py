"""Axes of small drawings: where a value stands, and where the ticks go."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

Number = int | float
"""Type checkers take a float for both; the check at run time does not."""
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
        low, high = self._scaled(self.low), self._scaled(self.high)
        share = (self._scaled(value) - low) / (high - low)
        share = min(max(share, 0.0), 1.0)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, about: int = 5) -> tuple[float, ...]:
        """Return round values on the axis.

        >>> Axis(low=0.42, high=0.97, start=0, end=9).ticks()
        (0.5, 0.6, 0.7, 0.8, 0.9)
        >>> Axis(low=0.3, high=200.0, start=0, end=9, log=True).ticks()
        (1.0, 10.0, 100.0)
        """
        if self.log and math.log10(self.high / self.low) > 1.5:
            return self._decades(about)
        span = self.high - self.low
        power = 10.0 ** math.floor(math.log10(span / about))
        step = next(power * nice for nice in NICE if span / (power * nice) <= about + 1)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return tuple(float(f"{k * step:.15g}") for k in range(first, last + 1))

    def _decades(self, about: int) -> tuple[float, ...]:
        first = math.ceil(math.log10(self.low) - 1e-9)
        last = math.floor(math.log10(self.high) + 1e-9)
        skip = max(math.ceil((last - first) / about), 1)
        return tuple(10.0**power for power in range(first, last + 1, skip))

    def _scaled(self, value: Number) -> float:
        return math.log(max(value, 1e-12)) if self.log else float(value)


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
