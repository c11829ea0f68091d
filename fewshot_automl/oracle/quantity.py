"""What is believed of one quantity, on a standard scale where more is better."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from fewshot_automl.errors import UserError
from fewshot_automl.oracle.evidence import Evidence
from fewshot_automl.oracle.goals import SCORE, Aims, measured
from fewshot_automl.oracle.process import Points
from fewshot_automl.oracle.surrogate import Surrogate, fit, standardised
from fewshot_automl.outcome import History
from fewshot_automl.space import Config, Space

View = Points | Float64[np.ndarray, " _"]
"""A quantity at some Configs: a posterior, or values that are known."""
DECADE = 0.1
"""Share of the least value above 0 that 0 counts as where ratios are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Turns a quantity in its own units into numbers of which more is better.

    Costs (parameters, milliseconds) are compared by their ratios. Whatever is below
    `floor` counts as that.

    >>> Scale(sign=-1.0, floor=1.0, centre=0.0, unit=np.log(10)).standard(
    ...     np.array([100.0, 0.0])
    ... ).tolist()
    [-2.0, -0.0]
    """

    sign: float
    """1 where more is better, -1 where less is."""
    floor: float | None
    """Least value that has a logarithm of its own; None where differences count."""
    centre: float = 0.0
    """What 0 stands for."""
    unit: float = 1.0
    """What 1 stands for, less the centre."""

    @classmethod
    def of(
        cls, name: str, values: Float64[np.ndarray, " trials"], aims: Aims
    ) -> "Scale":
        """Return the scale of a quantity of which some values were seen."""
        is_cost = aims.is_cost(name)
        limit = aims.limit(name)
        ends = [] if limit is None else [limit.least, limit.most]
        marks = [*values.tolist(), *(end for end in ends if end is not None)]
        positive = [mark for mark in marks if mark > 0]
        has_ratios = is_cost and positive and min(marks) >= 0
        return cls(
            sign=-1.0 if is_cost else 1.0,
            floor=DECADE * min(positive) if has_ratios else None,
        )

    def oriented(
        self, values: Float64[np.ndarray, " rows"]
    ) -> Float64[np.ndarray, " rows"]:
        """Return values of which more is better, in no unit."""
        if self.floor is not None:
            values = np.log(np.maximum(values, self.floor))
        return np.asarray(self.sign * values)

    def standard(
        self, values: Float64[np.ndarray, " rows"]
    ) -> Float64[np.ndarray, " rows"]:
        """Return values on the standard scale."""
        return np.asarray((self.oriented(values) - self.centre) / self.unit)

    def natural(
        self, values: Float64[np.ndarray, " rows"]
    ) -> Float64[np.ndarray, " rows"]:
        """Return values of the standard scale in their own units."""
        values = self.sign * (self.centre + self.unit * values)
        return np.asarray(values if self.floor is None else np.exp(values))

    def standard_range(
        self, least: float | None, most: float | None
    ) -> tuple[float, float]:
        """Return both ends of a range on the standard scale, infinite for None."""
        low, high = (
            -np.inf * self.sign if least is None else self.standard_of(least),
            np.inf * self.sign if most is None else self.standard_of(most),
        )
        return min(low, high), max(low, high)

    def standard_of(self, value: float) -> float:
        """Return one value on the standard scale."""
        return float(self.standard(np.array([value]))[0])

    def with_unit(self, centre: float, unit: float) -> "Scale":
        """Return the scale with another centre and unit."""
        return Scale(sign=self.sign, floor=self.floor, centre=centre, unit=unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """Holds what is believed of one quantity everywhere."""

    name: str
    """Its name."""
    scale: Scale
    """What its standard scale means."""
    known: Callable[[Config], float] | None = None
    """Works it out; None where it is learnt."""
    surrogate: Surrogate | None = None
    """What was learnt; None where there was nothing to learn from."""

    def look_up(self, configs: Sequence[Config]) -> View:
        """Return the quantity at Configs; without knowledge it is average.

        Raises:
            UserError: If a quantity that a Config fixes is not finite.
        """
        if self.known is not None:
            return self.scale.standard(exact_values(self.name, self.known, configs))
        if self.surrogate is None:
            return np.zeros(len(configs))
        rows = self.surrogate.evidence.encode(configs)
        return self.surrogate.process.look_up(rows)

    @classmethod
    def exact(
        cls,
        name: str,
        known: Callable[[Config], float],
        configs: Sequence[Config],
        aims: Aims,
    ) -> "Quantity":
        """Return a quantity that Configs fix, on a scale by those seen."""
        values = exact_values(name, known, configs)
        scale = Scale.of(name, values, aims)
        return cls(name=name, scale=_fitted(scale, values), known=known)

    @classmethod
    def scored(cls, surrogate: Surrogate) -> "Quantity":
        """Return the score, of which a surrogate is there already."""
        scores = surrogate.scores
        scale = Scale(sign=1.0, floor=None, centre=scores.centre, unit=scores.unit)
        return cls(name=SCORE, scale=scale, surrogate=surrogate)

    @classmethod
    def learnt(
        cls,
        name: str,
        space: Space,
        history: History,
        aims: Aims,
        *,
        steps: int,
        seed: int,
    ) -> "Quantity | None":
        """Return a quantity learnt from the trials that measured it.

        Returns:
            None where no trial did. Where all measured the same, it is taken to be so
            everywhere.

        Raises:
            SurrogateError: If no process can be fitted.
        """
        evidence = evidence_of(name, space, history)
        done = evidence.indices("done")
        values = np.array([measured(name, evidence.history[i][1]) for i in done])
        if not len(values):
            return None
        scale = Scale.of(name, values, aims)
        numbers = scale.oriented(values)
        if not differ(numbers):
            return cls(name=name, scale=_fitted(scale, values))
        scores = standardised(numbers, np.full(len(numbers), np.nan))
        surrogate = fit(evidence, scores, steps=steps, seed=seed)
        return cls(
            name=name,
            scale=scale.with_unit(scores.centre, scores.unit),
            surrogate=surrogate,
        )


def evidence_of(name: str, space: Space, history: History) -> Evidence:
    """Return the trials that measured a quantity, the last one of each Config."""
    last = {
        config: outcome
        for config, outcome in history
        if np.isfinite(measured(name, outcome))
    }
    return Evidence.of(space, list(last.items()))


def differ(numbers: Float64[np.ndarray, " trials"]) -> bool:
    """Return whether there are two numbers that differ by more than rounding."""
    if len(numbers) < 2:
        return False
    return bool(np.ptp(numbers) > 1e-12 * np.abs(numbers).max())


def exact_values(
    name: str, known: Callable[[Config], float], configs: Sequence[Config]
) -> Float64[np.ndarray, " configs"]:
    """Return what Configs fix.

    Raises:
        UserError: If a value is not finite.
    """
    values = np.array([known(config) for config in configs], dtype=np.float64)
    for config, value in zip(configs, values.tolist(), strict=True):
        if not np.isfinite(value):
            raise UserError(
                f"{name} must be finite for every Config, got {value} for {config}. "
                "Leave it out of what is exact to have it learnt."
            )
    return values


def _fitted(scale: Scale, values: Float64[np.ndarray, " trials"]) -> Scale:
    """Return a scale with the mean and the deviation of some values."""
    numbers = scale.oriented(values)
    if differ(numbers):
        scores = standardised(numbers, np.full(len(numbers), np.nan))
        return scale.with_unit(scores.centre, scores.unit)
    centre = float(numbers.mean()) if len(numbers) else 0.0
    is_ratio = scale.floor is not None or centre == 0.0
    return scale.with_unit(centre, 1.0 if is_ratio else abs(centre))
