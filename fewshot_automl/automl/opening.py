"""What a study tries before the oracle is asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fewshot_automl.oracle.sobol import SobolOracle
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config, Space
from fewshot_automl.trial.design import (
    dear_defaults,
    dear_space,
    is_dear,
    rung_zero,
)
from fewshot_automl.trial.forecast import Forecast

History = Sequence[tuple[Config, Outcome]]

EMBEDDING_SHARE: Final = 0.4
"""Of the budget, for pushing all examples once through the backbones of rung 0."""
SOBOL_TRIALS: Final = 4
"""Space-filling trials of the dear methods between their defaults and the oracle."""
DEAR_SHARE: Final = 0.35
"""Of the budget, for one dear trial of the opening."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """Rung 0 on affordable backbones, dear methods at their defaults, then Sobol."""

    space: Space
    """The study's space."""
    forecast: Forecast
    """What trials cost."""
    budget_seconds: float | None
    """Of the whole command."""
    seed: int = 0
    """Of the space-filling Configs."""

    def affordable(self, history: History) -> list[str]:
        """Return the backbones whose features fit the budget, cheapest first."""
        names = [card.id for card in self.forecast.workbench.cards]
        costs = {n: self.forecast.embedding_seconds(n, history) for n in names}
        left = (self.budget_seconds or float("inf")) * EMBEDDING_SHARE
        chosen: list[str] = []
        for name in sorted(names, key=costs.__getitem__):
            left -= costs[name]
            if left < 0 and chosen:  # the cheapest is tried whatever it costs
                break
            chosen.append(name)
        return chosen

    def __call__(self, history: History) -> list[Config]:
        """Return what must be tried first, given the history so far."""
        tried = {config for config, _ in history}
        first = rung_zero(self.space, self.affordable(history), history)
        if any(config not in tried for config in first):
            return first
        return first + (self._dear(history, tried) or self._sobol(history))

    def _dear(self, history: History, tried: set[Config]) -> list[Config]:
        """Return of each dear default the dearest form that the budget allows.

        Where none does, the cheapest comes last: a forecast may be wrong, and time
        that is left over buys nothing.
        """
        limit = (self.budget_seconds or float("inf")) * DEAR_SHARE
        chosen, doubtful = [], []
        for ladder in dear_defaults(self.space, history):
            if tried.isdisjoint(ladder):
                fits = (
                    config
                    for config in ladder
                    if self.forecast.trial_seconds(config, history) <= limit
                )
                if (config := next(fits, None)) is not None:
                    chosen.append(config)
                else:
                    doubtful.append(ladder[-1])
        return chosen + doubtful

    def _sobol(self, history: History) -> list[Config]:
        """Return the next of a few space-filling Configs of the dear methods."""
        narrowed = dear_space(self.space)
        done = sum(is_dear(config) for config, _ in history)
        defaults = len(dear_defaults(self.space, history))
        if narrowed is None or done >= defaults + SOBOL_TRIALS:
            return []
        return SobolOracle().suggest(narrowed, history, 1, self.seed)
