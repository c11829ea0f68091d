"""Which parameters a study has and when each is asked for, read off its trials.

An Optuna objective names its parameters while it runs, and need not name all of them
each time. What decides over a parameter is never said; it can only be inferred.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from fewshot_automl.sampler.parameter import Parameter
from fewshot_automl.space import Choice, Config, Space, Value, When

_Row = tuple[tuple[tuple[str, int], ...], tuple[tuple[str, str], ...], bool]
"""Which range of each parameter was asked, deciding values, whether it is complete."""


@dataclass(frozen=True)
class Structure:
    """Holds the parameters of a study as a conditional space.

    A parameter that some complete trials did without is taken to depend on parameters
    asked before it: on each value that was never seen without it. A value not seen
    at all gets it, too, for Optuna lets a suggestion pass that nobody asks for.
    Where no values of others explain when a parameter is there, it is left out, and
    drawn by itself.
    """

    parameters: tuple[Parameter, ...]
    """In the order in which they were first asked for."""
    conditions: tuple[tuple[When, ...], ...]
    """Of each parameter, all of which must hold."""

    @classmethod
    def of(cls, trials: Sequence[FrozenTrial], names: set[str] | None) -> "Structure":
        """Return what trials of one study, in order of their numbers, tell.

        Args:
            trials: Those of any state. Only complete ones tell that a parameter is
                not asked for; others may have ended before it was.
            names: The only parameters of interest; None for all.
        """
        seen = _Seen(trials, names)
        found: list[tuple[Parameter, tuple[When, ...]]] = []
        for name in seen.ranges:
            found += _explained(name, seen, [parameter for parameter, _ in found])
        deciding = {when.dimension for _, conditions in found for when in conditions}
        return cls(
            tuple(replace(p, decides=p.key in deciding) for p, _ in found),
            tuple(conditions for _, conditions in found),
        )

    @cached_property
    def space(self) -> Space:
        """Return the space of the parameters."""
        pairs = zip(self.parameters, self.conditions, strict=True)
        return Space(tuple(parameter.dimension(when) for parameter, when in pairs))

    @cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Return Optuna's distribution of each parameter."""
        return {p.name: p.distribution for p in self.parameters}

    def config(self, params: Mapping[str, Any]) -> Config:
        """Return the Config of a trial's parameters.

        It holds those active in the space. Where one of them is missing, the Config
        does not lie in the space.
        """
        values: dict[str, Value] = {}
        for parameter, dimension in zip(
            self.parameters, self.space.dimensions, strict=True
        ):
            if parameter.name in params and self.space.is_active(dimension, values):
                values[parameter.key] = parameter.inward(params[parameter.name])
        return Config.of(values)

    def beside(self, params: Mapping[str, Any]) -> Space:
        """Return the part of the space that agrees with parameters already given."""
        part = self.space
        for name, value in self.config(params).items:
            if name in part and part[name].contains(value):
                is_option = isinstance(part[name], Choice)
                part = part.narrow(name, (value,) if is_option else (value, value))
        return part

    def params(self, config: Config) -> dict[str, Any]:
        """Return a Config's values by the names and in the form that Optuna knows."""
        return {
            parameter.name: parameter.outward(config[parameter.key])
            for parameter in self.parameters
            if parameter.key in config
        }


class _Seen:
    """Knows which parameters stood beside which values."""

    def __init__(self, trials: Sequence[FrozenTrial], names: set[str] | None) -> None:
        self.ranges: dict[str, list[BaseDistribution]] = {}
        self.latest: dict[str, BaseDistribution] = {}
        rows: dict[_Row, None] = {}
        for trial in trials:
            kept = {
                name: distribution
                for name, distribution in trial.distributions.items()
                if not distribution.single() and (names is None or name in names)
            }
            self.latest |= kept
            asked = {name: self._index(name, kept[name]) for name in kept}
            deciders = (Parameter(n, n, d, decides=True) for n, d in kept.items())
            values = {
                p.name: str(p.inward(trial.params[p.name]))
                for p in deciders
                if p.can_decide
            }
            is_whole = trial.state == TrialState.COMPLETE
            rows[tuple(asked.items()), tuple(values.items()), is_whole] = None
        self._rows = [(dict(a), dict(v), is_whole) for a, v, is_whole in rows]

    def _index(self, name: str, distribution: BaseDistribution) -> int:
        known = self.ranges.setdefault(name, [])
        if distribution not in known:
            known.append(distribution)
        return known.index(distribution)

    def beside(
        self, name: str, index: int | None = None
    ) -> tuple[list[Mapping[str, str]], list[Mapping[str, str]]]:
        """Return the deciding values of trials with a parameter, and of those without.

        Args:
            name: The parameter.
            index: The only one of its ranges that counts; None for any.
        """
        having: list[Mapping[str, str]] = []
        lacking: list[Mapping[str, str]] = []
        for asked, values, is_whole in self._rows:
            if name in asked and index in (None, asked[name]):
                having.append(values)
            elif is_whole or name in asked:
                lacking.append(values)
        return having, lacking


def _explained(
    name: str, seen: _Seen, before: Sequence[Parameter]
) -> list[tuple[Parameter, tuple[When, ...]]]:
    """Return a parameter and its conditions; none where they are not to be found.

    A name with another range in another branch gives a parameter for each range. If
    no branches explain the ranges, the latest range counts.
    """
    ranges = seen.ranges[name]
    if len(ranges) > 1:
        each = [_conditions(before, *seen.beside(name, i)) for i in range(len(ranges))]
        parts = [
            (Parameter(name, f"{name}@{index}", distribution), conditions)
            for index, (distribution, conditions) in enumerate(
                zip(ranges, each, strict=True)
            )
            if conditions is not None
        ]
        if len(parts) == len(ranges):
            return parts
    conditions = _conditions(before, *seen.beside(name))
    if conditions is None:
        return []
    return [(Parameter(name, name, seen.latest[name]), conditions)]


def _conditions(
    before: Sequence[Parameter],
    having: Sequence[Mapping[str, str]],
    lacking: Sequence[Mapping[str, str]],
) -> tuple[When, ...] | None:
    """Return conditions that hold for all that have and for none that lack something.

    The parameter that rules out most of what is left comes first; of equals, the one
    with the fewest values (it separates the least by chance), then the one asked last.

    Args:
        before: What was asked for earlier.
        having: Values of trials that have it.
        lacking: Values of trials that lack it.

    Returns:
        None where no set of conditions does so.
    """
    conditions: list[When] = []
    left = list(lacking)
    splits = [_Split.of(p, having) for p in reversed(before) if p.can_decide]
    while left:
        best = max(splits, key=lambda split: split.merit(left), default=None)
        if best is None or not any(map(best.rules_out, left)):
            return None
        without = best.without(left)
        allowed = tuple(option for option in best.options if option not in without)
        if not allowed:  # its range is another one by now
            return None
        conditions.append(When(best.name, allowed))
        left = [values for values in left if not best.rules_out(values)]
    return tuple(conditions)


@dataclass(frozen=True)
class _Split:
    """Holds a parameter that may decide over another, and its values beside that."""

    name: str
    options: tuple[str, ...]
    beside: frozenset[str]

    @classmethod
    def of(cls, parent: Parameter, having: Sequence[Mapping[str, str]]) -> "_Split":
        dimension = replace(parent, decides=True).dimension(())
        assert isinstance(dimension, Choice)
        # One that is lacking itself, or has several ranges, decides over nothing.
        sure = parent.key == parent.name and all(parent.name in v for v in having)
        values = frozenset(v[parent.name] for v in having) if sure else frozenset()
        return cls(parent.name, dimension.options, values)

    def rules_out(self, values: Mapping[str, str]) -> bool:
        return bool(self.beside) and values.get(self.name) not in self.beside

    def without(self, lacking: Sequence[Mapping[str, str]]) -> set[str]:
        return {v[self.name] for v in filter(self.rules_out, lacking) if self.name in v}

    def merit(self, lacking: Sequence[Mapping[str, str]]) -> tuple[int, int]:
        ruled_out = sum(map(self.rules_out, lacking))
        return ruled_out, -len(self.beside | self.without(lacking))
