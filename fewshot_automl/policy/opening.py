"""What a study tries before the oracle is asked."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from fewshot_automl.oracle import Prior, oracle_named
from fewshot_automl.outcome import History
from fewshot_automl.policy.costs import CostModel
from fewshot_automl.policy.defaults import (
    Method,
    is_shorter,
    ladder,
    on_best_backbone,
    options,
    rung_zero,
    training_methods,
)
from fewshot_automl.policy.leader import ranked_backbones, undominated
from fewshot_automl.policy.limits import Predicate
from fewshot_automl.policy.plan import Plan
from fewshot_automl.space import Config, Space

VISITS: Final = 3
"""Times that the trial on the best backbone should see each example, if its steps have
to be few."""
SPREAD: Final = 16
"""Configs among which the next space-filling one is chosen."""
LEAST_TRUST: Final = 0.5
"""In past studies, from which on they choose it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """Rung 0 on the planned backbones, then training defaults, then a Sobol spread."""

    space: Space
    """The study's space."""
    methods: tuple[Method, ...]
    """Every method's row."""
    costs: CostModel
    """What trials cost."""
    plan: Plan
    """What may be spent on what."""
    keeps: Callable[[History], Predicate] = lambda history: lambda config: True
    """Whether a Config keeps the limits, as far as that is known."""
    prior: Prior = field(default_factory=Prior)
    """Past studies, which choose among the space-filling Configs while trusted."""
    seed: int = 0
    """Of the space-filling Configs."""

    def __call__(self, history: History) -> list[Config]:
        """Return what must be tried first, given the history so far.

        Of each training default all forms come that the plan allows, the best first:
        the study takes the first that fits the time left. So a cheap trial that does
        not fit keeps nothing from those behind it.
        """
        moment = _Moment(
            opening=self,
            history=history,
            costs=self.costs.after(history),
            keeps=self.keeps(history),
            tried={config for config, _ in history},
        )
        return moment.rung_zero() + (moment.training() or moment.filling())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    """An opening at one point of its study."""

    opening: Opening
    history: History
    costs: CostModel
    keeps: Predicate
    tried: set[Config]

    def rung_zero(self) -> list[Config]:
        """Return the baselines, and the cheap methods on the planned backbones."""
        space, methods = self.opening.space, self.opening.methods
        names = self._affordable()
        found = [
            config
            for config in rung_zero(space, methods, names)
            if "backbone" not in config or self.keeps(config)
        ]
        if names and self.tried.issuperset(found):
            last = on_best_backbone(space, methods, self._ranked()[0])
            found += [config for config in last if self.keeps(config)]
        return found

    def training(self) -> list[Config]:
        """Return the forms of the training defaults that keep to the plan.

        Where none of any fits, the cheapest come until one was tried: an estimate may
        be wrong, and time that is left over buys nothing.
        """
        limit = self.opening.plan.trial_seconds
        ladders = [rungs for rungs in self._ladders() if self.tried.isdisjoint(rungs)]
        payable = [
            config
            for rungs in ladders
            for config in rungs
            if limit is None or self.costs.seconds(config) <= limit
        ]
        if not payable and not any(map(self._trains, self.tried)):
            payable = [rungs[-1] for rungs in ladders]
        names = self._training_methods()
        first = [config for config in payable if config.text("method") == names[0]]
        rest = [config for config in payable if config not in first]
        return first + self._on_best_backbone() + rest

    def filling(self) -> list[Config]:
        """Return the next of a few space-filling Configs of the training methods.

        Past studies that are trusted choose it among some.
        """
        opening, limit = self.opening, self.opening.plan.trial_seconds
        names, ladders = self._training_methods(), self._ladders()

        def allows(config: Config) -> bool:
            is_payable = limit is None or self.costs.seconds(config) <= limit
            return is_payable and self.keeps(config)

        done = sum(map(self._trains, self.tried))
        is_over = done >= len(ladders) + opening.plan.space_filling
        if is_over or not any(allows(rung) for rungs in ladders for rung in rungs):
            return []
        found = oracle_named("sobol").suggest(
            opening.space.narrow("method", names),
            self.history,
            SPREAD,
            opening.seed,
            allows,
        )
        prior, space = opening.prior, opening.space
        if found and prior.weights(space, self.history).sum() >= LEAST_TRUST:
            worth = prior.advice(space, self.history)(found)
            return [found[int(np.argmax(worth))]]
        return found[:1]

    def _affordable(self) -> list[str]:
        """Return the planned backbones, without those that turn out too slow.

        The plan knew only arithmetic; the first backbones show what it is worth.
        """
        opening = self.opening
        known = options(opening.space, "backbone")
        planned = [name for name in opening.plan.backbones if name in known]
        if opening.plan.rung_zero_seconds is None:
            return planned
        left = opening.plan.rung_zero_seconds
        begun = set()
        for config, outcome in self.history:
            if "backbone" in config and not self._trains(config):
                begun.add(config.text("backbone"))
                left -= outcome.cost_seconds
        chosen: list[str] = []
        for name in planned:
            if name not in begun:
                first = rung_zero(opening.space, opening.methods, [name])[-1]
                left -= self.costs.setup_seconds(first)
                if left < 0 and chosen:  # the first is tried whatever it costs
                    continue
            chosen.append(name)
        return chosen

    def _on_best_backbone(self) -> list[Config]:
        """Return one training default on the best backbone, if too slow so far.

        More methods on a lesser backbone would differ less than the folds' noise. (On
        a draw of trec6 at 8 a class, 10 steps of 16 on half of MPNet scored 0.93 and
        cost as much as 40 of 32 on MiniLM-L6, which scored 0.83; once, by hand.)
        """
        limit, names = self.opening.plan.best_seconds, self._training_methods()
        if limit is None or not names:
            return []
        examples = self.costs.arithmetic.examples
        rungs = ladder(self.opening.space, names[0], self._ranked()[0], examples)
        if not self.tried.isdisjoint(rungs):
            return []
        payable = [
            config
            for config in rungs
            if is_shorter(config, rungs)
            and self.costs.seconds(config) <= limit
            and self.keeps(config)
        ]
        brief = [
            config
            for config in payable
            if int(config["steps"]) * int(config["batch_size"]) >= VISITS * examples
        ]
        return brief[::-1] or payable

    def _ladders(self) -> list[list[Config]]:
        """Return the training defaults on the best backbones that can be paid for.

        Each method on every backbone before the next. A backbone that can only be
        trained by less of it than the others makes room for the next best; if there is
        none other, it is better than nothing. So does one that another beats in rung 0
        and in the zoo's ranking.
        """
        space, plan = self.opening.space, self.opening.plan
        names, examples = self._training_methods(), self.costs.arithmetic.examples
        rungs = {
            (method, name): ladder(space, method, name, examples)
            for method in names
            for name in options(space, "backbone")
        }

        def is_payable(config: Config) -> bool:
            most = plan.trial_seconds
            return most is None or self.costs.seconds(config) <= most

        ranked = self._ranked() if names else []
        whole = [
            name
            for name in ranked
            if any(
                is_shorter(config, rungs[method, name])
                and self.keeps(config)
                and is_payable(config)
                for method in names
                for config in rungs[method, name]
            )
        ]
        chosen = undominated(
            whole or ranked, ranked, self.history, self.costs.arithmetic
        )
        found = (
            [
                config
                for config in rungs[method, name]
                if self.keeps(config)
                and (not whole or is_shorter(config, rungs[method, name]))
            ]
            for method in names
            for name in chosen[: plan.training_backbones]
        )
        return [one for one in found if one]

    def _training_methods(self) -> list[str]:
        return training_methods(self.opening.space, self.opening.methods)

    def _ranked(self) -> list[str]:
        """Return the space's backbones, the most promising first."""
        names = options(self.opening.space, "backbone")
        return ranked_backbones(names, self.history, self.costs.arithmetic)

    def _trains(self, config: Config) -> bool:
        return self.costs.arithmetic.trains(config)
