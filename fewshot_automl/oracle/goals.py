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
FIXED: Final = frozenset({"parameters", "flops"})
"""Names of what a Config fixes, so that one measurement of it is the truth."""


def measured(name: str, outcome: Outcome) -> float:
    """Return a quantity of a trial in its own units; NaN where it was not measured.

    >>> measured("score", Outcome(status="done", mean=0.9))
    0.9
    """
    if not outcome.is_done:
        return math.nan
    value = outcome.mean if name == SCORE else outcome.measures.get(name, math.nan)
    return float(value) if math.isfinite(value) else math.nan


def _check_name(kind: str, name: str) -> None:
    if not name.strip():
        raise UserError(f"Name of a {kind} must not be empty, got {name!r}. Name it.")


@dataclass(frozen=True, slots=True)
class Goal:
    """Names one objective and which way is better.

    >>> str(Goal("score")), str(Goal("parameters", maximise=False))
    ('most score', 'least parameters')
    """

    name: str
    """`score`, or a name in `Outcome.measures`."""
    maximise: bool = True
    """Whether more is better."""

    def __post_init__(self) -> None:
        """Check the name."""
        _check_name("goal", self.name)
        if self.name == SCORE and not self.maximise:
            raise UserError(
                "Goal 'score' must be maximised, got maximise=False. Scores are "
                "oriented so that greater is better, whatever the metric."
            )

    def of(self, outcome: Outcome) -> float:
        """Return what a trial reached, greater is better; NaN where not measured."""
        value = measured(self.name, outcome)
        return value if self.maximise else -value

    def __str__(self) -> str:
        """Return the goal in words."""
        return f"{'most' if self.maximise else 'least'} {self.name}"


@dataclass(frozen=True, slots=True)
class Limit:
    """Names one quantity and the range it must lie in, ends included.

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
        _check_name("limit", self.name)
        ends = [end for end in (self.least, self.most) if end is not None]
        if not ends:
            raise UserError(
                f"Limit of {self.name!r} must have an end, got none. Give most or "
                "least."
            )
        if not all(map(math.isfinite, ends)):
            raise UserError(
                f"Limit of {self.name!r} must be finite, got {ends}. Leave out an end "
                "that allows everything."
            )
        if ends[0] > ends[-1]:
            raise UserError(
                f"Limit of {self.name!r} must allow something, got least {self.least} "
                f"and most {self.most}. Swap them."
            )

    def allows(self, value: float) -> bool:
        """Return whether a value keeps the limit; what is not known does not."""
        return (self.least is None or value >= self.least) and (
            value <= self.most if self.most is not None else not math.isnan(value)
        )

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

    goals: tuple[Goal, ...] = (Goal(SCORE),)
    """What to improve; with several, their Pareto front is."""
    limits: tuple[Limit, ...] = ()
    """What must hold."""
    exact: Mapping[str, Callable[[Config], float]] = field(default_factory=dict)
    """Works out, by name, finite quantities that a Config fixes; others are learnt."""
    reference: tuple[float, ...] | None = None
    """One value a goal, in its own units: worse than this is of no interest. None
    takes it from the history (see `reference_point` in `hypervolume`)."""

    def __post_init__(self) -> None:
        """Check names and the reference, and freeze the mapping."""
        for kind, all_names in (
            ("Goals", [goal.name for goal in self.goals]),
            ("Limits", [limit.name for limit in self.limits]),
        ):
            if len(set(all_names)) < len(all_names):
                raise UserError(
                    f"{kind} must have different names, got {', '.join(all_names)}. "
                    "Name each once."
                )
        if not self.goals:
            raise UserError("Goals must not be empty, got none. Give Goal('score').")
        if self.reference is not None and (
            len(self.reference) != len(self.goals)
            or not all(map(math.isfinite, self.reference))
        ):
            raise UserError(
                f"Reference must be one finite value for each of {len(self.goals)} "
                f"goals, got {self.reference}. Leave it out to have it chosen."
            )
        object.__setattr__(self, "exact", MappingProxyType(dict(self.exact)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as plain values (a mapping proxy has no pickle of its own)."""
        return _aims, (self.goals, self.limits, dict(self.exact), self.reference)

    @property
    def is_plain(self) -> bool:
        """Return whether the score alone counts."""
        return self.names == (SCORE,) and not self.limits

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all goals and then of all other limits."""
        goals = [goal.name for goal in self.goals]
        return tuple(dict.fromkeys([*goals, *(limit.name for limit in self.limits)]))

    def is_cost(self, name: str) -> bool:
        """Return whether less of a quantity is better: minimised, or only capped."""
        for goal in self.goals:
            if goal.name == name:
                return not goal.maximise
        return all(one.least is None for one in self.limits if one.name == name)

    def limit(self, name: str) -> Limit | None:
        """Return the limit of a quantity, None where it has none."""
        return next((one for one in self.limits if one.name == name), None)

    def keeps(self, config: Config) -> bool:
        """Return whether all that a Config fixes keeps the limits.

        >>> aims = Aims(
        ...     limits=(Limit("flops", most=1e9), Limit("latency_ms", most=5.0)),
        ...     exact={"flops": lambda config: 1e8 * int(config["depth"])},
        ... )
        >>> [aims.keeps(Config.of({"depth": depth})) for depth in (10, 11)]
        [True, False]
        """
        return all(
            limit.allows(self.exact[limit.name](config))
            for limit in self.limits
            if limit.name in self.exact
        )


def _aims(
    goals: tuple[Goal, ...],
    limits: tuple[Limit, ...],
    exact: Mapping[str, Callable[[Config], float]],
    reference: tuple[float, ...] | None,
) -> Aims:
    return Aims(goals=goals, limits=limits, exact=exact, reference=reference)
