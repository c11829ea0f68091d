"""What a study tries before the oracle is asked."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from fewshot_automl.oracle import oracle_named
from fewshot_automl.outcome import History
from fewshot_automl.policy.allowed import Allowed
from fewshot_automl.policy.defaults import (
    Method,
    ladder,
    on_best_backbone,
    options,
    rung_zero,
    training_methods,
    whole,
)
from fewshot_automl.policy.leader import ranked_backbones
from fewshot_automl.space import Config

SPREAD: Final = 16
"""Configs among which the next space-filling one is chosen."""
MOMENT: Final = 0.5
"""Seconds that a trial may take although no time is left."""
LEAST_TRUST: Final = 0.5
"""In past studies, from which on they choose it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """Rung 0 on the planned backbones, then training defaults, then a Sobol spread."""

    methods: tuple[Method, ...]
    """Every method's row."""
    allowed: Allowed
    """What may be spent on what, and which limits are to be kept."""

    def __call__(self, history: History) -> list[Config]:
        """Return what must be tried first, given the history so far.

        Of each training default all forms come that the plan allows, the best first:
        the study takes the first that fits the time left. So a cheap trial that does
        not fit keeps nothing from those behind it.
        """
        moment = _Moment(self, history)
        return moment.rung_zero() + (moment.training() or moment.filling())

    def sure(self, history: History) -> Config | None:
        """Return what is tried although no time is left; None if there is a model.

        What learns something in a moment, such as TF-IDF on few texts; else the
        cheapest Config, a constant answer where the space has one.
        """
        learns, moment = self.allowed.leader.learns, _Moment(self, history)
        done = [config for config, outcome in history if outcome.is_done]
        seconds, left = moment.costs.seconds, moment.cheapest()
        quick = [c for c in left if learns(c) and seconds(c) < MOMENT]
        if any(map(learns, done)) or (done and not quick):
            return None
        return min(quick or left, key=seconds, default=None)


class _Moment:
    """An opening at one point of its study."""

    def __init__(self, opening: Opening, history: History) -> None:
        allowed, self.methods, self.history = opening.allowed, opening.methods, history
        self.leader, self.plan = allowed.leader, allowed.plan
        self.space = allowed.leader.space
        self.costs = allowed.costs.after(history)
        self.keeps = allowed.within_limits(history)
        self.tried = {config for config, _ in history}
        self.trains = self.costs.arithmetic.trains
        self.training_names = training_methods(self.space, self.methods)
        self.backbones = options(self.space, "backbone")
        self.ranked = ranked_backbones(self.backbones, history, self.costs.arithmetic)

    def rung_zero(self) -> list[Config]:
        """Return the baselines, and the cheap methods on the planned backbones."""
        names = self._affordable()
        found = rung_zero(self.space, self.methods, names)
        found = [c for c in found if "backbone" not in c or self.keeps(c)]
        if names and self.tried.issuperset(found):
            last = on_best_backbone(self.space, self.methods, self.ranked[0])
            found += filter(self.keeps, last)
        return found

    def cheapest(self) -> list[Config]:
        """Return cheap Configs, or the cheapest that train, that are untried."""
        found = rung_zero(self.space, self.methods, self.backbones) or [
            self._ladder(method, name)[-1]
            for method in self.training_names
            for name in self.backbones
        ]
        return [config for config in found if config not in self.tried]

    def training(self) -> list[Config]:
        """Return the forms of the training defaults, those to be preferred first.

        The best that is scored on as many folds as planned; else the quickest on one.
        Where that is too long, too, it comes until one was tried: an estimate may be
        wrong, and time that is left over buys nothing.
        """
        ladders = [rungs for rungs in self._ladders() if self.tried.isdisjoint(rungs)]
        found: list[Config] = []
        for rungs in ladders:
            planned = list(filter(self._is_payable, rungs))
            short = [c for c in rungs if c not in planned and self._is_payable(c, 1)]
            found += planned + short[::-1]
        if not found and not any(map(self.trains, self.tried)):
            return [rungs[-1] for rungs in ladders]
        return found

    def filling(self) -> list[Config]:
        """Return the next of a few space-filling Configs of the training methods.

        Past studies that are trusted choose it among some.
        """
        ladders, names = self._ladders(), self.training_names
        done = sum(map(self.trains, self.tried))
        is_over = done >= len(ladders) + self.plan.space_filling
        if is_over or not any(self._is_payable(c) for rungs in ladders for c in rungs):
            return []

        def allows(config: Config) -> bool:
            return self._is_payable(config) and self.keeps(config)

        space, sobol = self.space.narrow("method", names), oracle_named("sobol")
        found = sobol.suggest(space, self.history, SPREAD, self.leader.seed, allows)
        prior = self.leader.prior
        if found and prior.weights(self.space, self.history).sum() >= LEAST_TRUST:
            worth = prior.advice(self.space, self.history)(found)
            return [found[int(np.argmax(worth))]]
        return found[:1]

    def _affordable(self) -> list[str]:
        """Return the planned backbones, without those that turn out too slow.

        The plan knew only arithmetic; the first backbones show what it is worth.
        """
        most, begun = self.plan.rung_zero_seconds, set()
        left = math.inf if most is None else most
        for config, outcome in self.history:
            if "backbone" in config and not self.trains(config):
                begun.add(config.text("backbone"))
                left -= outcome.cost_seconds
        chosen: list[str] = []
        for name in (n for n in self.plan.backbones if n in self.backbones):
            if name not in begun:
                first = rung_zero(self.space, self.methods, [name])[-1]
                left -= self.costs.setup_seconds(first)
                if left < 0 and chosen:  # the first is tried whatever it costs
                    continue
            chosen.append(name)
        return chosen

    def _ladders(self) -> list[list[Config]]:
        """Return the training defaults on the best backbones that can be paid for.

        Each method on every backbone before the next. A backbone that can only be
        trained by less of it than the others makes room for the next best; if there is
        none other, it is better than nothing.
        """
        payable = [
            name
            for name in self.ranked
            if any(
                self._is_payable(config, 1)
                for method in self.training_names
                for config in self._kept(method, name, is_whole=True)
            )
        ]
        found = (
            self._kept(method, name, is_whole=bool(payable))
            for method in self.training_names
            for name in (payable or self.ranked)[: self.plan.training_backbones]
        )
        return [rungs for rungs in found if rungs]

    def _kept(self, method: str, backbone: str, *, is_whole: bool) -> list[Config]:
        """Return the forms of a training default that keep the limits.

        If whole, only those that train as much of the backbone as the first.
        """
        rungs = self._ladder(method, backbone)
        return list(filter(self.keeps, whole(rungs) if is_whole else rungs))

    def _ladder(self, method: str, backbone: str) -> tuple[Config, ...]:
        return ladder(self.space, method, backbone, self.costs.arithmetic.examples)

    def _is_payable(self, config: Config, folds: int | None = None) -> bool:
        """Return whether a trial on so many folds, those planned if None, is short."""
        most = self.plan.trial_seconds
        folds = folds or self.plan.training_folds
        return most is None or self.costs.seconds(config, folds) <= most
