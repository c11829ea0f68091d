"""What a study tries before the oracle is asked."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from fewshot_automl.automl.limits import Limits, allowed_space
from fewshot_automl.automl.plan import Plan
from fewshot_automl.automl.thrift import affordable_space, shortened
from fewshot_automl.oracle.prior import Prior
from fewshot_automl.oracle.sobol import SobolOracle
from fewshot_automl.outcome import History
from fewshot_automl.space import Config, Space
from fewshot_automl.trial.design import (
    DEAR_ORDER,
    dear_defaults,
    dear_space,
    is_shorter,
    probed_backbones,
    rung_zero,
    undominated,
)
from fewshot_automl.trial.forecast import Forecast
from fewshot_automl.trial.workload import is_dear

VISITS: Final = 3
"""Times that the bold trial should see each example; then the briefest form will do."""
SPREAD: Final = 16
"""Configs among which the next space-filling one is chosen."""
LEAST_TRUST: Final = 0.5
"""In past studies, from which on they choose it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """Rung 0 on the planned backbones, dear methods at their defaults, then Sobol."""

    space: Space
    """The study's space."""
    forecast: Forecast
    """What trials cost."""
    plan: Plan
    """What may be spent on what."""
    seed: int = 0
    """Of the space-filling Configs."""
    limits: Limits = ()
    """What the model must keep; backbones that break them are tried no further."""
    keeps: Callable[[Config], bool] = lambda config: True
    """Whether what a Config fixes keeps them; dear ones that do not are left out."""
    prior: Prior = field(default_factory=Prior)
    """Past studies, which choose among the space-filling Configs while trusted."""

    def __call__(self, history: History) -> list[Config]:
        """Return what must be tried first, given the history so far.

        Of each dear default all forms come that the plan allows, the best first: the
        study takes the first that fits the time left. So a quick trial that does not
        fit keeps nothing from those behind it.
        """
        inside = allowed_space(self.space, history, self.limits)
        if inside is not self.space:
            return replace(self, space=inside, limits=())(history)
        tried = {config for config, _ in history}
        first = rung_zero(self.space, self._probed(history), history)
        return first + (self._dear(history, tried) or self._sobol(history))

    def _probed(self, history: History) -> list[str]:
        """Return the planned backbones, without those that turn out too dear.

        The plan knew only arithmetic; the first backbones show what it is worth.
        """
        left_in = probed_backbones(self.space, ())
        planned = [name for name in self.plan.backbones if name in left_in]
        if self.plan.rung_zero_seconds is None:
            return planned
        prices = self.forecast.after(history)
        begun = {
            config.text("backbone")
            for config, _ in history
            if "backbone" in config and not is_dear(config)
        }
        left = self.plan.rung_zero_seconds - sum(
            outcome.cost_seconds
            for config, outcome in history
            if "backbone" in config and not is_dear(config)
        )
        chosen: list[str] = []
        for name in planned:
            if name not in begun:
                left -= prices.embedding_seconds(name)
                if left < 0 and chosen:  # the first is tried whatever it costs
                    continue
            chosen.append(name)
        return chosen

    def _dear(self, history: History, tried: set[Config]) -> list[Config]:
        """Return the forms of the dear defaults that keep to the plan.

        Where none of any fits, the cheapest come until one was tried: a forecast may
        be wrong, and time that is left over buys nothing.
        """
        limit = self.plan.dear_seconds
        ladders = [
            ladder for ladder in self._ladders(history) if tried.isdisjoint(ladder)
        ]
        prices = self.forecast.after(history)
        payable = [
            config
            for ladder in ladders
            for config in ladder
            if limit is None or prices.trial_seconds(config) <= limit
        ]
        if not payable and not any(is_dear(config) for config in tried):
            payable = [ladder[-1] for ladder in ladders]
        first = [c for c in payable if c.text("method") == DEAR_ORDER[0]]
        rest = [config for config in payable if config not in first]
        return first + self._bold(history, tried) + rest

    def _bold(self, history: History, tried: set[Config]) -> list[Config]:
        """Return one dear default on the best backbone, if that was too dear so far.

        More methods on a lesser backbone would differ less than the folds' noise. (On
        a draw of trec6 at 8 a class, 10 steps of 16 on half of MPNet scored 0.93 and
        cost as much as 40 of 32 on MiniLM-L6, which scored 0.83; once, by hand.)
        """
        limit = self.plan.bold_seconds
        ranked = probed_backbones(self.space, history)
        if limit is None or not ranked:
            return []
        examples = self.forecast.workload.examples
        ladder = next(iter(dear_defaults(self.space, ranked[:1], examples)), [])
        if not tried.isdisjoint(ladder):
            return []
        prices = self.forecast.after(history)
        payable = [
            config
            for config in ladder
            if is_shorter(config, ladder)
            and prices.trial_seconds(config) <= limit
            and self.keeps(config)
        ]
        brief = [
            config
            for config in payable
            if int(config["steps"]) * int(config["batch_size"]) >= VISITS * examples
        ]
        return brief[::-1] or payable

    def _ladders(self, history: History) -> list[list[Config]]:
        """Return the dear defaults on the best backbones that can be paid for.

        A backbone that can only be trained by less of it than the others makes room
        for the next best; if there is none other, it is better than nothing. So does
        one that another beats in rung 0 and in the zoo's ranking.
        """
        examples = self.forecast.workload.examples
        ranked = probed_backbones(self.space, history)
        whole = [name for name in ranked if self._is_payable(name, history)]
        chosen = undominated(whole or ranked, self.space, history)
        chosen = chosen[: self.plan.dear_backbones]
        ladders = (
            [
                config
                for config in ladder
                if self.keeps(config) and (not whole or is_shorter(config, ladder))
            ]
            for ladder in dear_defaults(self.space, chosen, examples)
        )
        return [ladder for ladder in ladders if ladder]

    def _is_payable(self, backbone: str, history: History) -> bool:
        """Return whether a dear default, if only shorter, keeps to plan and limits."""
        limit = self.plan.dear_seconds
        prices = self.forecast.after(history)
        examples = self.forecast.workload.examples
        return any(
            limit is None or prices.trial_seconds(config) <= limit
            for ladder in dear_defaults(self.space, [backbone], examples)
            for config in ladder
            if is_shorter(config, ladder) and self.keeps(config)
        )

    def _sobol(self, history: History) -> list[Config]:
        """Return the next of a few space-filling Configs of the dear methods."""
        narrowed = dear_space(self.space)
        done = sum(map(is_dear, {config for config, _ in history}))
        defaults = len(self._ladders(history))
        if narrowed is None or done >= defaults + self.plan.space_filling:
            return []
        limit = self.plan.dear_seconds
        if limit is None:
            spread = SobolOracle().suggest(narrowed, history, SPREAD, self.seed)
            return self._hopeful(spread, history)[:1]
        prices = self.forecast.after(history)
        payable = affordable_space(narrowed, prices, history, limit)
        if payable is None:
            return []
        shorter = (
            shortened(self.space, config, prices, limit)
            for config in self._hopeful(
                SobolOracle().suggest(payable, history, SPREAD, self.seed), history
            )
        )
        found = next((config for config in shorter if config is not None), None)
        return [] if found is None else [found]

    def _hopeful(self, configs: list[Config], history: History) -> list[Config]:
        """Return what keeps the limits, first what did well in trusted past studies.

        Without them the order stays, which is that of an even spread.
        """
        configs = [config for config in configs if self.keeps(config)]
        if self.prior.mixture(self.space, history).sum() < LEAST_TRUST:
            return configs
        worth = self.prior.advise(self.space, history, configs)[:, 0]
        return [configs[i] for i in np.argsort(-worth, kind="stable").tolist()]
