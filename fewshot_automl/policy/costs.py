"""What a trial may cost: counted operations, corrected by what trials really took."""

import math
from collections.abc import Hashable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, runtime_checkable

import numpy as np

from fewshot_automl.outcome import History
from fewshot_automl.space import Config

Effect = tuple[str, ...]
"""Names something that makes a part of a trial slower or faster than arithmetic."""
Parts = tuple[float, float, float, float]
"""Seconds of each of `PARTS`."""
Lesson = tuple[Config, Parts, float, bool]
"""A trial, what arithmetic says, what it took, and whether it was stopped there."""

PARTS: Final = ("load", "encode", "train", "head")
"""What a trial pays for: weights from disk, frozen activations, training, heads."""
SPREAD: Final = (1.0, 0.4)
"""Standard deviations, in logarithms, of how wrong the arithmetic of a part is for
all trials, and how much a method, a head or a backbone differs from the others."""
VARIANCE: Final = 0.037
"""Of the logarithm of a trial's seconds, given all effects."""
ROUNDS: Final = 8
"""Of Gauss-Newton: the sum of parts is not linear in logarithms. From the middle on
trials that do not fit the others count less."""
STRIDE: Final = 1.5
"""Most that an effect moves in one round."""
REMEMBERED: Final = 60
"""Latest trials that are learnt from."""
LEAST_SECONDS: Final = 1e-3


@runtime_checkable
class Arithmetic(Protocol):
    """What the model wing knows of costs before any trial was seen."""

    @property
    def backbones(self) -> tuple[str, ...]:
        """Return the names of those at hand, the default and the best known first."""

    @property
    def examples(self) -> int:
        """Return how many are labelled."""

    def prior(self, backbone: str) -> float:
        """Return how well a backbone is ranked beforehand, greater is better."""

    def trains(self, config: Config) -> bool:
        """Return whether a Config trains by gradient steps."""

    def shared(self, config: Config) -> tuple[Hashable, ...]:
        """Return what a trial makes that later ones need not: weights, activations."""

    def parts(self, config: Config, fits: int, have: Set[Hashable]) -> Parts:
        """Return the seconds of so many fits where some things are there already."""

    def pass_seconds(self, backbone: str) -> float:
        """Return the seconds of one example's way through a backbone."""

    def windows(self, config: Config) -> float:
        """Return how often that way is gone for one example."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel:
    """Predicts seconds by arithmetic times what was learnt from a history.

    Each part of a trial is its arithmetic times the exponential of effects: one of the
    part itself, others of backbone, method and head. The effects are those of greatest
    posterior probability under normal priors around zero, so one trial moves its like
    fully, others in part.
    """

    arithmetic: Arithmetic
    """What is known before any trial."""
    cheap_folds: int = 1
    """Fits in a trial of a method that does not train: folds times repeats."""
    training_folds: int = 1
    """Fits in a trial of a method that trains."""
    effects: Mapping[Effect, float] = field(default_factory=dict)
    """What was learnt, in logarithms."""
    have: frozenset[Hashable] = frozenset()
    """Backbones that were loaded and activations that were computed."""
    _last: dict[Hashable, dict[Effect, float]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def after(self, history: History) -> "CostModel":
        """Return what trials cost, as far as a history teaches it.

        Trials on backbones that are not at hand any more teach nothing: nobody knows
        their sizes, and no trial to come is like them.
        """
        at_hand = set(self.arithmetic.backbones)
        have: set[Hashable] = set()
        lessons: list[Lesson] = []
        for config, outcome in history:
            if "backbone" in config and config.text("backbone") not in at_hand:
                continue
            if outcome.status in ("done", "stopped") and outcome.cost_seconds > 0:
                fits = len(outcome.scores) or self.folds(config)
                plain = self.arithmetic.parts(config, fits, have)
                is_least = outcome.status == "stopped"
                lessons.append((config, plain, outcome.cost_seconds, is_least))
            if outcome.status in ("done", "running"):
                have.update(self.arithmetic.shared(config))
        lessons = lessons[-REMEMBERED:]
        key = tuple((config, seconds) for config, _, seconds, _ in lessons)
        if key not in self._last:  # most questions are about the same history
            self._last.clear()
            self._last[key] = _learn(lessons)
        return replace(self, effects=self._last[key], have=frozenset(have))

    def folds(self, config: Config) -> int:
        """Return how many fits a trial makes."""
        trains = self.arithmetic.trains(config)
        return self.training_folds if trains else self.cheap_folds

    def seconds(self, config: Config, training_folds: int | None = None) -> float:
        """Return the expected seconds of a trial, if it trains on so many folds."""
        fits = self.folds(config)
        if training_folds is not None and self.arithmetic.trains(config):
            fits = min(training_folds, fits)
        return sum(self._parts(config, fits))

    def refit_seconds(self, config: Config) -> float:
        """Return the expected seconds of fitting a Config to all examples."""
        return sum(self._parts(config, 1)[PARTS.index("train") :])

    def setup_seconds(self, config: Config) -> float:
        """Return the seconds before the first fit: loading and encoding."""
        return sum(self._parts(config, 1)[: PARTS.index("train")])

    def scoring_seconds(self, config: Config, examples: int) -> float:
        """Return the expected seconds of predicting so many new examples."""
        if "backbone" not in config:
            return 0.0
        each = self.arithmetic.pass_seconds(config.text("backbone"))
        each *= self.arithmetic.windows(config)
        return examples * each * self._factor("encode", config)

    def _parts(self, config: Config, fits: int) -> list[float]:
        plain = self.arithmetic.parts(config, fits, self.have)
        pairs = zip(PARTS, plain, strict=True)
        return [seconds * self._factor(part, config) for part, seconds in pairs]

    def _factor(self, part: str, config: Config) -> float:
        known = self.effects
        return math.exp(sum(known.get(one, 0.0) for one in _effects_on(part, config)))


def _learn(lessons: Sequence[Lesson]) -> dict[Effect, float]:
    """Return the most probable effects, in logarithms, given some trials.

    Source:
        Bishop, Pattern Recognition and Machine Learning 2006, sec. 3.3 (the linear
        case); linearised again in each round.
    """
    if not lessons:
        return {}
    rows = [[_effects_on(part, config) for part in PARTS] for config, *_ in lessons]
    names = sorted({effect for row in rows for found in row for effect in found})
    touched = np.array(
        [[[name in found for name in names] for found in row] for row in rows], float
    )
    plain = np.array([parts for _, parts, _, _ in lessons])
    took = np.log([max(seconds, LEAST_SECONDS) for _, _, seconds, _ in lessons])
    is_least = np.array([is_least for *_, is_least in lessons])
    prior = np.diag([SPREAD[min(len(name) - 1, 1)] ** -2 for name in names])
    effects = np.zeros(len(names))
    for number in range(ROUNDS):
        seconds = plain * np.exp(touched @ effects)
        total = np.maximum(seconds.sum(axis=1), LEAST_SECONDS)
        slopes = np.einsum("lp,lpe->le", seconds / total[:, None], touched)
        missed = took - np.log(total)
        trust = np.where(is_least & (missed < 0), 0.0, 1.0) / VARIANCE
        if number >= ROUNDS // 2:
            trust /= 1.0 + missed**2 / (9 * VARIANCE)
        weighted = slopes.T * trust
        wanted = np.linalg.solve(
            weighted @ slopes + prior, weighted @ (missed + slopes @ effects)
        )
        effects += np.clip(wanted - effects, -STRIDE, STRIDE)
    return dict(zip(names, effects.tolist(), strict=True))


def _effects_on(part: str, config: Config) -> tuple[Effect, ...]:
    """Return the effects that a part of a Config's trial is subject to."""
    method, backbone = config.text("method"), str(config.get("backbone", ""))
    if part == "load":
        return ((part,),)
    if part == "encode":
        return ((part,), (part, backbone))
    if part == "train":
        return ((part,), (part, method), (part, backbone))
    return ((part,), (part, method, str(config.get("head", ""))))
