"""Who leads: the one ranking of trials, and of backbones before they are trained."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from fewshot_automl.oracle import PLAIN, Aims, Limit, Prior, posterior_means
from fewshot_automl.outcome import History, Outcome
from fewshot_automl.policy.costs import Arithmetic
from fewshot_automl.space import Config, Space

PRIOR_WEIGHT: Final = 0.02
"""Score that a backbone e times as high in the zoo's ranking is worth beforehand."""


def broken(limits: Sequence[Limit], measures: Mapping[str, float]) -> list[Limit]:
    """Return the limits that measured values do not keep; what is unknown does not."""
    return [one for one in limits if not one.allows(measures.get(one.name, math.nan))]


def excess(limits: Sequence[Limit], measures: Mapping[str, float]) -> float:
    """Return by what share of each limit values are beyond it, added up."""
    total = 0.0
    for limit in broken(limits, measures):
        end = limit.least if limit.most is None else limit.most
        value = measures.get(limit.name, math.nan)
        if end is None or math.isnan(value):
            return math.inf
        total += abs(value - end) / abs(end or 1.0)
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The done trials that may become the model, by their place in the history."""

    order: tuple[int, ...] = ()
    """Places, the leader first."""
    scores: dict[int, float] = field(default_factory=dict)
    """Posterior mean of each done trial, also of those that may not."""
    holds: bool = True
    """Whether those in `order` keep all limits; else they come closest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leader:
    """Ranks trials by posterior mean, never by the luckiest score.

    A study asks often and a surrogate takes its time, so the last answer is kept.
    """

    space: Space
    """Where the Configs live."""
    seed: int = 0
    """Makes fits repeatable."""
    aims: Aims = PLAIN
    """The limits that count."""
    prior: Prior = field(default_factory=Prior)
    """Past studies of the search."""
    is_at_hand: Callable[[Config], bool] = lambda config: True
    """Whether a Config could be fitted again: its backbone may be gone."""
    learns: Callable[[Config], bool] = lambda config: True
    """Whether a Config's model is more than a constant answer."""
    _last: dict[tuple[Config, ...], Ranking] = field(default_factory=dict, repr=False)

    def __call__(self, history: History) -> Ranking:
        """Return the ranking of the done trials.

        Those that keep every limit, as measured; if there are none, those that are
        beyond the limits by least. A constant answer must lead by its standard error:
        with few labels many models that have learnt something score below it by chance.
        Ties go to the higher score, then to the earlier.
        """
        key = tuple(config for config, outcome in history if outcome.is_done)
        if key not in self._last:
            self._last.clear()
            self._last[key] = self._ranked(history)
        return self._last[key]

    def _ranked(self, history: History) -> Ranking:
        scores = posterior_means(self.space, history, self.seed, self.prior)
        beyond = {
            i: excess(self.aims.limits, self.measures(*history[i]))
            for i in scores
            if self.is_at_hand(history[i][0])
        }
        least = min(beyond.values(), default=math.inf)
        order = sorted(
            (i for i in beyond if beyond[i] <= least),
            key=lambda i: (
                self._doubt(*history[i]) - scores[i],
                -history[i][1].mean,
                i,
            ),
        )
        return Ranking(order=tuple(order), scores=scores, holds=least == 0)

    def _doubt(self, config: Config, outcome: Outcome) -> float:
        if self.learns(config) or math.isnan(outcome.standard_error):
            return 0.0
        return outcome.standard_error

    def measures(self, config: Config, outcome: Outcome) -> dict[str, float]:
        """Return what was measured, sizes being those of a fit to all examples."""
        exact = self.aims.exact if self.is_at_hand(config) else {}
        names = [one.name for one in self.aims.limits if one.name in exact]
        return {**outcome.measures, **{name: exact[name](config) for name in names}}


def ranked_backbones(
    names: Sequence[str], history: History, arithmetic: Arithmetic
) -> list[str]:
    """Return backbones, the most promising first, those never tried last.

    Promise is the best cheap score plus a little for the zoo's prior: with few
    labels the scores of two backbones often differ by less than their noise.
    """
    best, prior = dict.fromkeys(names, -math.inf), arithmetic.prior
    for config, outcome in history:
        name = str(config.get("backbone", ""))
        if name in best and outcome.is_done and not arithmetic.trains(config):
            best[name] = max(best[name], outcome.mean)
    promise = {name: best[name] + PRIOR_WEIGHT * prior(name) for name in names}
    return sorted(names, key=lambda name: (-promise[name], -prior(name)))
