"""Seconds that a study keeps for what comes after its search."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from fewshot_automl.outcome import History
from fewshot_automl.policy.costs import CostModel
from fewshot_automl.policy.leader import Leader
from fewshot_automl.policy.plan import SCORING_SHARE, SLACK, saving_seconds
from fewshot_automl.space import Config

MOST_FINAL_SHARE: Final = 0.2
"""Of the budget, that fits of more members than one may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """Foresees fitting, scoring and saving the model that leads."""

    costs: CostModel
    """What trials cost."""
    leader: Leader
    """Who leads."""
    budget_seconds: float | None
    """Of the whole command; None without limit."""
    members: int
    """Most models averaged in the result."""
    tested: int = 0
    """Test examples to be scored at the end."""
    _leaders: dict[int, Sequence[Config]] = field(default_factory=dict, repr=False)

    def __call__(self, history: History) -> float:
        """Return the seconds to keep.

        Scoring claims no more than its share: rather a late result than no search.
        """
        if self.budget_seconds is None:
            return 0.0
        costs = self.costs.after(history)
        most = SCORING_SHARE * self.budget_seconds / SLACK
        each = [
            costs.refit_seconds(config)
            + min(costs.scoring_seconds(config, self.tested), most)
            for config in self._leading(history)
        ]
        together = min(sum(each), MOST_FINAL_SHARE * self.budget_seconds)
        fitting = max(max(each, default=0.0), together)
        return saving_seconds(costs, self.budget_seconds) + SLACK * fitting

    def late_seconds(self, history: History) -> float:
        """Return what scoring is expected to take if that is beyond its share, or 0."""
        leading = self._leading(history)
        if self.budget_seconds is None or not leading:
            return 0.0
        seconds = self.costs.after(history).scoring_seconds(leading[0], self.tested)
        return seconds if seconds > SCORING_SHARE * self.budget_seconds else 0.0

    def _leading(self, history: History) -> Sequence[Config]:
        """Return what the model will be of, as far as is known.

        Cheap trials take no time to fit again, so none of them is worth a ranking: the
        leaders are asked for once after each trial that trains.
        """
        at_hand = self.leader.is_at_hand
        done = [c for c, outcome in history if outcome.is_done and at_hand(c)]
        trained = sum(map(self.costs.arithmetic.trains, done))
        if not trained:
            return done[-self.members :]
        if trained not in self._leaders:
            self._leaders.clear()
            order = self.leader(history).order[: self.members]
            self._leaders[trained] = [history[i][0] for i in order]
        return self._leaders[trained]
