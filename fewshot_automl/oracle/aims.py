"""What a search is after: objectives to improve and limits to keep."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from fewshot_automl.errors import UserError
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config

SCORE: Final = "score"
"""Name of `Outcome.mean`; every other name stands in `Outcome.measures`."""


def measured(name: str, outcome: Outcome) -> float:
    """Return a score or measure of a trial in its own units; NaN where there is none.

    >>> measured("score", Outcome(status="done", mean=0.9))
    0.9
    """
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
                f"An objective must have a name, and 'score' must be maximised, got "
                f"{self.name!r} with maximise={self.maximise}. Scores are oriented so "
                "that greater is better, whatever the metric."
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
                f"that allow something, got least {self.least} and most {self.most}. "
                "Mend them."
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
    """Holds all that a search is after.

    >>> Aims().is_plain, Aims(limits=(Limit("flops", most=1e9),)).is_plain
    (True, False)
    """

    objectives: tuple[Objective, ...] = (Objective(SCORE),)
    """What to improve; with several, their Pareto front is."""
    limits: tuple[Limit, ...] = ()
    """What must hold."""
    exact: Mapping[str, Callable[[Config], float]] = field(default_factory=dict)
    """Works out, by name, finite measures that a Config fixes; others are learnt."""

    def __post_init__(self) -> None:
        """Check the names and freeze the mapping."""
        for kind, parts in (("Objectives", self.objectives), ("Limits", self.limits)):
            names = [part.name for part in parts]
            if len(set(names)) < len(names) or (parts == () and kind == "Objectives"):
                raise UserError(
                    f"{kind} must have different names, and one objective is needed, "
                    f"got {', '.join(names) or 'none'}. Name each once."
                )
        object.__setattr__(self, "exact", MappingProxyType(dict(self.exact)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as plain values (a mapping proxy has no pickle of its own)."""
        return _aims, (self.objectives, self.limits, dict(self.exact))

    @property
    def is_plain(self) -> bool:
        """Return whether the score alone counts."""
        return self.names == (SCORE,) and not self.limits

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all objectives and then of all other limits."""
        both = (*self.objectives, *self.limits)
        return tuple(dict.fromkeys(one.name for one in both))

    def is_cost(self, name: str) -> bool:
        """Return whether less of a measure is better: minimised, or only capped."""
        directions = [one.maximise for one in self.objectives if one.name == name]
        if directions or name == SCORE:
            return directions == [False]
        return all(one.least is None for one in self.limits if one.name == name)

    def keeps(self, config: Config) -> bool:
        """Return whether all that a Config fixes keeps the limits.

        >>> aims = Aims(
        ...     limits=(Limit("flops", most=1e9), Limit("latency_ms", most=5.0)),
        ...     exact={"flops": lambda config: 1e8 * int(config["depth"])},
        ... )
        >>> [aims.keeps(Config.of({"depth": depth})) for depth in (10, 11)]
        [True, False]
        """
        known = [limit for limit in self.limits if limit.name in self.exact]
        return all(limit.allows(self.exact[limit.name](config)) for limit in known)


PLAIN: Final = Aims()
"""The score alone, without limits."""


def _aims(objectives: Any, limits: Any, exact: Any) -> Aims:
    return Aims(objectives=objectives, limits=limits, exact=exact)
