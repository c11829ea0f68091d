"""What a search is after: objectives to improve and limits to keep."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from fewshot_automl.errors import UserError
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config

SCORE: Final = "score"
"""Name of `Outcome.mean`; every other name stands in `Outcome.measures`."""


def measured(name: str, outcome: Outcome) -> float:
    """Return a score or measure of a trial, in its own units; NaN if there is none."""
    if not outcome.is_done:
        return math.nan
    value = outcome.mean if name == SCORE else outcome.measures.get(name, math.nan)
    return float(value) if math.isfinite(value) else math.nan


@dataclass(frozen=True, slots=True)
class Objective:
    """Names one objective and which way is better.

    >>> str(Objective("score")), str(Objective("parameters", maximise=False))
    ('most score', 'least parameters')
    """

    name: str
    """`score`, or a name in `Outcome.measures`."""
    maximise: bool = True
    """Whether more is better."""

    def __post_init__(self) -> None:
        """Check the name."""
        if not self.name.strip() or (self.name == SCORE and not self.maximise):
            raise UserError(
                "An objective must have a name, and 'score' must be maximised, got "
                f"{self.name!r} with maximise={self.maximise}. Greater is better there."
            )

    def __str__(self) -> str:
        """Return the objective in words."""
        return f"{'most' if self.maximise else 'least'} {self.name}"


@dataclass(frozen=True, slots=True)
class Limit:
    """Names one measure and the range it must lie in, ends included.

    >>> limit = Limit("parameters", most=3e7)
    >>> str(limit), limit.allows(3e7), limit.allows(4e7)
    ('parameters at most 3e+07', True, False)
    """

    name: str
    """`score`, or a name in `Outcome.measures`."""
    most: float | None = None
    """Largest value allowed."""
    least: float | None = None
    """Smallest value allowed."""

    def __post_init__(self) -> None:
        """Check the name and the ends."""
        ends = [end for end in (self.least, self.most) if end is not None]
        is_fair = ends and all(map(math.isfinite, ends)) and ends[0] <= ends[-1]
        if not self.name.strip() or not is_fair:
            raise UserError(
                f"Limit of {self.name!r} must have a name, and one finite end or two "
                f"that allow something, got {self.least} to {self.most}. Mend them."
            )

    def allows(self, value: float) -> bool:
        """Return whether a value keeps the limit; what is not known does not."""
        least = -math.inf if self.least is None else self.least
        return least <= value <= (math.inf if self.most is None else self.most)

    def __str__(self) -> str:
        """Return the limit in words."""
        ends = [("at least", self.least), ("at most", self.most)]
        words = " and ".join(f"{w} {end:.6g}" for w, end in ends if end is not None)
        return f"{self.name} {words}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Aims:
    """Holds all that a search is after."""

    objectives: tuple[Objective, ...] = (Objective(SCORE),)
    """What to improve; with several, their Pareto front is."""
    limits: tuple[Limit, ...] = ()
    """What must hold."""
    exact: Mapping[str, Callable[[Config], float]] = field(default_factory=dict)
    """Works out, by name, finite measures that a Config fixes; others are learnt."""

    def __post_init__(self) -> None:
        """Check the names."""
        goals = [one.name for one in self.objectives]
        bounds = [one.name for one in self.limits]
        if not goals or len({*goals}) < len(goals) or len({*bounds}) < len(bounds):
            raise UserError(
                "Objectives must be one or more, and each must have a name of its own, "
                f"as limits must, got {goals} and {bounds}. Name each once."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all objectives and then of all other limits."""
        names = [one.name for one in self.objectives]
        return tuple(dict.fromkeys([*names, *(one.name for one in self.limits)]))

    def is_cost(self, name: str) -> bool:
        """Return whether less of a measure is better: minimised, or only capped."""
        directions = [one.maximise for one in self.objectives if one.name == name]
        if directions or name == SCORE:
            return directions == [False]
        return all(one.least is None for one in self.limits if one.name == name)

    def keeps(self, config: Config) -> bool:
        """Return whether all that a Config fixes keeps the limits."""
        known = (one for one in self.limits if one.name in self.exact)
        return all(one.allows(self.exact[one.name](config)) for one in known)


PLAIN: Final = Aims()
"""The score alone, without limits."""
