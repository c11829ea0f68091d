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
        moment = _Moment(self, history)
        return moment.rung_zero() + (moment.training() or moment.filling())


class _Moment:
    """An opening at one point of its study."""

    def __init__(self, opening: Opening, history: History) -> None:
        self.space, self.plan, self.prior = opening.space, opening.plan, opening.prior
        self.methods, self.seed, self.history = opening.methods, opening.seed, history
        self.costs = opening.costs.after(history)
        self.keeps = opening.keeps(history)
        self.tried = {config for config, _ in history}
        self.trains = self.costs.arithmetic.trains
        self.training_names = training_methods(self.space, self.methods)
        self.ranked = ranked_backbones(
            options(self.space, "backbone"), history, self.costs.arithmetic
        )

    def rung_zero(self) -> list[Config]:
        """Return the baselines, and the cheap methods on the planned backbones."""
        names = self._affordable()
        found = [
            config
            for config in rung_zero(self.space, self.methods, names)
            if "backbone" not in config or self.keeps(config)
        ]
        if names and self.tried.issuperset(found):
            last = on_best_backbone(self.space, self.methods, self.ranked[0])
            found += filter(self.keeps, last)
        return found

    def training(self) -> list[Config]:
        """Return the forms of the training defaults that keep to the plan.

        Where none of any fits, the cheapest come until one was tried: an estimate may
        be wrong, and time that is left over buys nothing.
        """
        ladders = [rungs for rungs in self._ladders() if self.tried.isdisjoint(rungs)]
        payable = [
            rung for rungs in ladders for rung in rungs if self._is_payable(rung)
        ]
        if not payable and not any(map(self.trains, self.tried)):
            payable = [rungs[-1] for rungs in ladders]
        first = [c for c in payable if c.text("method") == self.training_names[0]]
        rest = [config for config in payable if config not in first]
        return first + self._on_best_backbone() + rest

    def filling(self) -> list[Config]:
        """Return the next of a few space-filling Configs of the training methods.

        Past studies that are trusted choose it among some.
        """
        ladders = self._ladders()
        done = sum(map(self.trains, self.tried))

        def allows(config: Config) -> bool:
            return self._is_payable(config) and self.keeps(config)

        is_over = done >= len(ladders) + self.plan.space_filling
        if is_over or not any(allows(rung) for rungs in ladders for rung in rungs):
            return []
        space = self.space.narrow("method", self.training_names)
        found = oracle_named("sobol").suggest(
            space, self.history, SPREAD, self.seed, allows
        )
        weights = self.prior.weights(self.space, self.history)
        if found and weights.sum() >= LEAST_TRUST:
            worth = self.prior.advice(self.space, self.history)(found)
            return [found[int(np.argmax(worth))]]
        return found[:1]

    def _affordable(self) -> list[str]:
        """Return the planned backbones, without those that turn out too slow.

        The plan knew only arithmetic; the first backbones show what it is worth.
        """
        known = options(self.space, "backbone")
        planned = [name for name in self.plan.backbones if name in known]
        left = self.plan.rung_zero_seconds
        if left is None:
            return planned
        begun = set()
        for config, outcome in self.history:
            if "backbone" in config and not self.trains(config):
                begun.add(config.text("backbone"))
                left -= outcome.cost_seconds
        chosen: list[str] = []
        for name in planned:
            if name not in begun:
                first = rung_zero(self.space, self.methods, [name])[-1]
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
        limit, examples = self.plan.best_seconds, self.costs.arithmetic.examples
        if limit is None or not self.training_names:
            return []
        rungs = self._ladder(self.training_names[0], self.ranked[0])
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
        kept = {
            (method, name): list(filter(self.keeps, self._ladder(method, name)))
            for method in self.training_names
            for name in self.ranked
        }
        short = {
            (method, name): [
                c for c in rungs if is_shorter(c, self._ladder(method, name))
            ]
            for (method, name), rungs in kept.items()
        }
        whole = [
            name
            for name in self.ranked
            if any(
                self._is_payable(config)
                for method in self.training_names
                for config in short[method, name]
            )
        ]
        arithmetic = self.costs.arithmetic
        chosen = undominated(
            whole or self.ranked, self.ranked, self.history, arithmetic
        )
        found = (
            (short if whole else kept)[method, name]
            for method in self.training_names
            for name in chosen[: self.plan.training_backbones]
        )
        return [rungs for rungs in found if rungs]

    def _ladder(self, method: str, backbone: str) -> tuple[Config, ...]:
        return ladder(self.space, method, backbone, self.costs.arithmetic.examples)

    def _is_payable(self, config: Config) -> bool:
        most = self.plan.trial_seconds
        return most is None or self.costs.seconds(config) <= most
