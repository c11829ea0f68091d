"""One parameter of a user's Optuna study, as a dimension of ours."""

import math
from dataclasses import dataclass
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from fewshot_automl.space import Choice, Dimension, Float, Int, Value, When

MOST_BRANCHES = 32
"""Most values of an integer on which other parameters may depend."""


@dataclass(frozen=True)
class Parameter:
    """Translates one Optuna parameter to a dimension, and its values both ways.

    Floats and integers become `Float` and `Int`; with a step they become the number
    of steps from their lowest value. Categories become the options of a `Choice`, by
    their place in the list, with that place as descriptor where they are numbers in
    order. An integer on which other parameters depend becomes a `Choice` too, with
    the integer as descriptor, because only a `Choice` can decide over others.

    >>> from optuna.distributions import FloatDistribution
    >>> parameter = Parameter("x", "x", FloatDistribution(0.0, 1.0, step=0.25))
    >>> parameter.dimension(()).describe(), parameter.inward(0.75), parameter.outward(2)
    ('0 to 4', 3, 0.5)
    """

    name: str
    """What Optuna calls it."""
    key: str
    """Name of the dimension; a name with several ranges has several dimensions."""
    distribution: BaseDistribution
    """What Optuna knows of it."""
    decides: bool = False
    """Whether other parameters depend on it."""

    @property
    def can_decide(self) -> bool:
        """Return whether other parameters may depend on it."""
        kind = self.distribution
        if isinstance(kind, IntDistribution):
            return (kind.high - kind.low) // kind.step < MOST_BRANCHES
        return isinstance(kind, CategoricalDistribution)

    def dimension(self, when: tuple[When, ...]) -> Dimension:
        """Return the dimension, active under these conditions."""
        name, kind = self.key, self.distribution
        if isinstance(kind, CategoricalDistribution):
            options = tuple(map(str, range(len(kind.choices))))
            places = ranks(kind.choices)
            return Choice(name=name, options=options, when=when, descriptors=places)
        assert isinstance(kind, FloatDistribution | IntDistribution)
        if self.decides and isinstance(kind, IntDistribution):
            values = range(kind.low, kind.high + 1, kind.step)
            scaled = [math.log(value) if kind.log else value for value in values]
            return Choice(
                name=name,
                options=tuple(map(str, values)),
                when=when,
                descriptors=tuple((float(value),) for value in scaled),
            )
        if self._steps:
            last = round((kind.high - kind.low) / self._steps)
            return Int(name=name, low=0, high=last, when=when)
        if isinstance(kind, IntDistribution):
            return Int(name=name, low=kind.low, high=kind.high, log=kind.log, when=when)
        return Float(name=name, low=kind.low, high=kind.high, log=kind.log, when=when)

    def inward(self, value: Any) -> Value:
        """Return Optuna's value as the dimension's."""
        kind = self.distribution
        if isinstance(kind, CategoricalDistribution):
            return str(int(kind.to_internal_repr(value)))
        if self.decides:
            return str(int(value))
        assert isinstance(kind, FloatDistribution | IntDistribution)
        if self._steps:
            return round((float(value) - kind.low) / self._steps)
        return int(value) if isinstance(kind, IntDistribution) else float(value)

    def outward(self, value: Value) -> Any:
        """Return the dimension's value as Optuna's."""
        kind = self.distribution
        if isinstance(kind, CategoricalDistribution):
            return kind.choices[int(value)]
        if self.decides:
            return int(value)
        assert isinstance(kind, FloatDistribution | IntDistribution)
        if self._steps:
            value = min(kind.low + float(value) * self._steps, kind.high)
        return int(value) if isinstance(kind, IntDistribution) else float(value)

    @property
    def _steps(self) -> float | None:
        """Return the width of a step where steps are counted, else None."""
        kind = self.distribution
        if isinstance(kind, FloatDistribution):
            return kind.step
        assert isinstance(kind, IntDistribution)
        return float(kind.step) if kind.step > 1 else None


def ranks(choices: tuple[Any, ...]) -> tuple[tuple[float, ...], ...] | None:
    """Return the place of each of three or more different numbers, else None.

    >>> ranks((64, 16, 32)), ranks(("adam", "sgd", "lion")), ranks((True, False, 2))
    (((2.0,), (0.0,), (1.0,)), None, None)
    """
    are_numbers = all(
        isinstance(choice, int | float) and not isinstance(choice, bool)
        for choice in choices
    )
    if not are_numbers or len(choices) < 3 or len(set(choices)) < len(choices):
        return None
    order = sorted(choices)
    return tuple((float(order.index(choice)),) for choice in choices)
