"""What may still be tried, and the seconds kept for what comes after the search."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from fewshot_automl.outcome import REFINEMENT, History
from fewshot_automl.policy.costs import CostModel
from fewshot_automl.policy.defaults import options
from fewshot_automl.policy.leader import Leader, broken
from fewshot_automl.policy.plan import SCORING_SHARE, SLACK, Plan, saving_seconds
from fewshot_automl.space import Config

CHEAP_SECONDS: Final = 2.0
"""Always granted to a trial, so that a plan without training allows cheap trials."""
HOPEFUL_SHARE: Final = 0.8
"""Of what is expected; a trial with less time than that is not started. A trial that
runs out of time costs only time that nothing else could have used."""
USED_SHARE: Final = 0.9
"""Of the time left that a trial may be expected to take."""
MOST_FINAL_SHARE: Final = 0.2
"""Of the budget, that fits of more members than one may take."""
PATIENCE: Final = 8
"""Cheap trials in a row that found nothing better, after which time is better given
back: beyond rung 0 they seldom pay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """Says which Configs may be tried, given a history, and what time they leave."""

    leader: Leader
    """Who leads; knows the space and the limits."""
    costs: CostModel
    """What trials cost."""
    plan: Plan
    """What may be spent on what."""
    remaining: Callable[[], float]
    """Seconds of the budget that are left; infinite without limit."""
    members: int
    """Most models averaged in the result."""
    tested: int = 0
    """Test examples to be scored at the end."""
    late_seconds: float = 0.0
    """How late the result may be if nothing has learnt anything before."""
    _leaders: dict[int, Sequence[Config]] = field(default_factory=dict, repr=False)

    def __call__(self, history: History) -> Callable[[Config], bool]:
        """Return whether a Config keeps the limits, may pay and can be paid for."""
        keeps, pays = self.within_limits(history), self.cheap_pays(history)
        costs, folds = self.costs.after(history), self.plan.training_folds
        trains, reserved = costs.arithmetic.trains, self.reserve(history)
        left = self.remaining()
        planned = self.plan.trial_seconds
        most = math.inf if planned is None else max(planned, CHEAP_SECONDS)

        def allows(config: Config) -> bool:
            if not keeps(config) or not (pays or trains(config)):
                return False
            own = self._reserved(costs, [config]) if trains(config) else 0.0
            spare = left - max(reserved, own)
            return costs.seconds(config, folds) <= min(USED_SHARE * spare, most)

        return allows

    def cheap_pays(self, history: History) -> bool:
        """Return whether cheap trials may still find something, if time is limited."""
        if self.plan.budget_seconds is None:
            return True
        losses = [
            outcome.measures.get(REFINEMENT, -outcome.mean)
            for config, outcome in history
            if outcome.is_done and not self.costs.arithmetic.trains(config)
        ]
        return not losses or len(losses) - 1 - int(np.argmin(losses)) < PATIENCE

    def needed(self, config: Config, history: History) -> float:
        """Return the least seconds that a trial needs besides `reserve`.

        One that trains needs its first fold, and time for its final fit.
        """
        costs, more = self.costs.after(history), 0.0
        if costs.arithmetic.trains(config):
            more = self._reserved(costs, [config]) - self.reserve(history)
        return HOPEFUL_SHARE * costs.seconds(config, 1) + max(more, 0.0)

    def within_limits(self, history: History) -> Callable[[Config], bool]:
        """Return whether a Config keeps the limits, as far as that is known.

        What a Config fixes is worked out. A backbone goes if every trial on it that is
        done broke a limit of what a model costs; its recall may still rise.
        """
        aims = self.leader.aims
        capped = [limit for limit in aims.limits if limit.most is not None]
        holds: dict[str, bool] = {}
        for config, outcome in history:
            if outcome.is_done and "backbone" in config:
                name = config.text("backbone")
                known = [one for one in capped if one.name in outcome.measures]
                is_kept = not broken(known, outcome.measures)
                holds[name] = holds.get(name, False) or is_kept
        over = {name for name, is_kept in holds.items() if not is_kept}
        if over.issuperset(options(self.leader.space, "backbone")):
            over = set()  # none would be left
        return lambda config: (
            config.get("backbone", "") not in over and aims.keeps(config)
        )

    def reserve(self, history: History) -> float:
        """Return the seconds to keep for fitting, scoring and saving what leads.

        What trains now may lead when it is done, so that its fit is kept, too.
        """
        running = [
            config
            for config, outcome in history
            if outcome.status == "running" and self.costs.arithmetic.trains(config)
        ]
        costs, budget = self.costs.after(history), self.plan.budget_seconds
        learnt = any(o.is_done and self.leader.learns(c) for c, o in history)
        if budget is not None and self.late_seconds and not learnt:
            kept = saving_seconds(costs, budget) - self.late_seconds
            left = max(self.remaining() - kept, 0.0)
            return kept + left / (1 + costs.cheap_folds)  # for one more fit
        leading = [*self._leading(history)]
        return max(self._reserved(costs, some) for some in (leading, running))

    def _reserved(self, costs: CostModel, configs: Sequence[Config]) -> float:
        """Return the seconds of fitting, scoring and saving a model of some Configs.

        Scoring claims no more than its share: rather a late result than no search.
        """
        budget = self.plan.budget_seconds
        if budget is None:
            return 0.0
        most = SCORING_SHARE * budget / SLACK
        each = [
            costs.refit_seconds(config)
            + min(costs.scoring_seconds(config, self.tested), most)
            for config in configs
        ]
        together = min(sum(each), MOST_FINAL_SHARE * budget)
        fitting = max(max(each, default=0.0), together)
        return saving_seconds(costs, budget) + SLACK * fitting

    def _leading(self, history: History) -> Sequence[Config]:
        """Return what the model will be of, as far as is known.

        Cheap trials take no time to fit again, so none of them is worth a ranking: the
        leaders are asked for once after each trial that trains.
        """
        is_at_hand = self.leader.is_at_hand
        done = [config for config, o in history if o.is_done and is_at_hand(config)]
        trained = sum(map(self.costs.arithmetic.trains, done))
        if not trained:
            return done[-self.members :]
        if trained not in self._leaders:
            self._leaders.clear()
            order = self.leader(history).order[: self.members]
            self._leaders[trained] = [history[i][0] for i in order]
        return self._leaders[trained]
