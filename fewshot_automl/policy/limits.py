"""Which Configs may be tried: what limits and the time that is left allow."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fewshot_automl.oracle import Aims, Limit
from fewshot_automl.outcome import History
from fewshot_automl.policy.costs import CostModel
from fewshot_automl.policy.defaults import options
from fewshot_automl.space import Config, Space

Predicate = Callable[[Config], bool]

CHEAP_SECONDS: Final = 2.0
"""Always granted to a trial, lest a plan without training forbid cheap trials."""
USED_SHARE: Final = 0.9
"""Of the time left that a trial may be expected to take."""


def broken(limits: Sequence[Limit], measures: Mapping[str, float]) -> list[Limit]:
    """Return the limits that measured values do not keep; what is unknown does not.

    >>> limits = (Limit("flops", most=10.0), Limit("worst_recall", least=0.5))
    >>> [limit.name for limit in broken(limits, {"flops": 7.0})]
    ['worst_recall']
    """
    return [one for one in limits if not one.allows(measures.get(one.name, math.nan))]


def excess(limits: Sequence[Limit], measures: Mapping[str, float]) -> float:
    """Return by what share of each limit values are beyond it, added up.

    >>> excess((Limit("flops", most=10.0),), {"flops": 15.0})
    0.5
    """
    total = 0.0
    for limit in broken(limits, measures):
        value = measures.get(limit.name, math.nan)
        if math.isnan(value):
            return math.inf
        end = limit.most if limit.most is not None else limit.least
        assert end is not None
        total += abs(value - end) / abs(end or 1.0)
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """Says which Configs may be tried, given a history."""

    space: Space
    """The study's."""
    costs: CostModel
    """What trials take."""
    aims: Aims
    """The limits, and what Configs fix of them."""
    trial_seconds: float | None
    """Most for any one trial; None without limit."""
    seconds_left: Callable[[History], float]
    """Time for trials that is left."""

    def __call__(self, history: History) -> Predicate:
        """Return whether a Config keeps the limits and can be paid for."""
        keeps = self.within_limits(history)
        costs = self.costs.after(history)
        most = USED_SHARE * self.seconds_left(history)
        if self.trial_seconds is not None:
            most = min(most, max(self.trial_seconds, CHEAP_SECONDS))
        return lambda config: keeps(config) and costs.seconds(config) <= most

    def within_limits(self, history: History) -> Predicate:
        """Return whether a Config keeps the limits, as far as that is known.

        What a Config fixes is worked out. A backbone goes if every trial on it that is
        done broke a limit of what a model costs; its recall may still rise.
        """
        capped = [limit for limit in self.aims.limits if limit.most is not None]
        holds: dict[str, bool] = {}
        for config, outcome in history if capped else ():
            if outcome.is_done and "backbone" in config:
                name = config.text("backbone")
                known = [one for one in capped if one.name in outcome.measures]
                is_kept = not broken(known, outcome.measures)
                holds[name] = holds.get(name, False) or is_kept
        over = {name for name, is_kept in holds.items() if not is_kept}
        if over.issuperset(options(self.space, "backbone")):
            over = set()  # none would be left
        return lambda config: (
            str(config.get("backbone", "")) not in over and self.aims.keeps(config)
        )
