"""How long a trial will take, before and after trials like it have been seen."""

import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from jaxtyping import Float64

from fewshot_automl.outcome import History
from fewshot_automl.space import Config
from fewshot_automl.trial.workload import (
    PARTS,
    Part,
    Workload,
    activations,
    is_dear,
)

Effect = tuple[str, ...]
"""Names something that makes a part of a trial dearer or cheaper than arithmetic."""

SPREAD: Final = (1.0, 0.4)
"""Standard deviations, in logarithms, of how wrong the arithmetic of a part is for
all trials, and how much a method, a head or a backbone differs from the others."""
NOISE: Final = 0.12
"""Standard deviation, in logarithms, between two runs of the same trial."""
OWN: Final = 0.15
"""The same of what a Config keeps to itself."""
ROUNDS: Final = 8
"""Of Gauss-Newton; the sum of parts is not linear in logarithms."""
TRUSTING_ROUNDS: Final = 4
"""Of them, before trials that do not fit the others count less."""
STRIDE: Final = 1.5
"""Most that an effect moves in one round."""
REMEMBERED: Final = 60
"""Latest trials that are learnt from."""
LEAST_SECONDS: Final = 1e-3
PRODUCTS: Final = 6
BATCH: Final = 32


def matrix_product_rate(
    device: str = "cpu", *, rows: int = 768, width: int = 384
) -> float:
    """Measure floating-point operations per second of a float32 matrix product.

    The shape is that of the widest product of an encoder's block. The fastest of a
    few products counts: what another program takes away now, it may not later.

    Args:
        device: Where, as `torch.device` spells it.
        rows: Tokens (or patches) in a batch.
        width: Of the encoder.
    """
    left = torch.ones((rows, width), device=device)
    right = torch.ones((width, 4 * width), device=device)
    float((left @ right)[0, 0])  # warm; reading a number waits for the device
    fastest = float("inf")
    for _ in range(PRODUCTS):
        start = time.perf_counter()
        float((left @ right)[0, 0])
        fastest = min(fastest, time.perf_counter() - start)
    return 2 * rows * width * 4 * width / max(fastest, 1e-9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Predicts seconds from arithmetic, corrected by what trials really took.

    A trial's seconds are a sum of parts. Each part is its arithmetic times the
    exponential of effects: one of the part itself, one of the backbone or method. The
    effects are those of greatest posterior probability under normal priors around
    zero, so one trial moves its like fully, others in part, and none of them is the
    arithmetic alone. A stopped trial says only that it would have taken longer.
    """

    workload: Workload
    """The sizes that arithmetic starts from."""
    _last: dict[tuple[object, ...], dict[Effect, float]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def after(self, history: History) -> "Prices":
        """Return what trials cost, as far as a history teaches it."""
        lessons, paid = _read(self.workload, history)
        key = tuple((one.config, one.seconds) for one in lessons[-REMEMBERED:])
        if key not in self._last:  # most questions are about the same history
            self._last.clear()
            self._last[key] = learn(lessons[-REMEMBERED:])
        return Prices(workload=self.workload, effects=self._last[key], paid=paid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What trials cost at one moment of a study."""

    workload: Workload
    """The sizes that arithmetic starts from."""
    effects: Mapping[Effect, float]
    """What was learnt, in logarithms."""
    paid: frozenset[tuple[object, ...]]
    """Backbones that were loaded and activations that were computed."""

    @property
    def slowness(self) -> float:
        """Return how much dearer training is than its arithmetic, for all methods."""
        return float(np.exp(self.effects.get(("train",), 0.0)))

    def trial_seconds(self, config: Config) -> float:
        """Return the expected seconds of a trial."""
        return float(self._parts(config, self.workload.fits(config)).sum())

    def refit_seconds(self, config: Config) -> float:
        """Return the expected seconds of fitting a Config to all examples."""
        return float(self._parts(config, 1)[PARTS.index("train") :].sum())

    def embedding_seconds(self, backbone: str) -> float:
        """Return the seconds for loading a backbone and encoding every example."""
        probe = Config.of({"method": "prototype", "backbone": backbone})
        return float(self._parts(probe, 1)[: PARTS.index("train")].sum())

    def scoring_seconds(self, config: Config, count: int) -> float:
        """Return the expected seconds of predicting for `count` new examples."""
        if "backbone" not in config:
            return 0.0
        seconds = count * self.workload.pass_seconds(config.text("backbone"))
        return float(seconds * np.exp(self._dearer("encode", config)))

    def _parts(self, config: Config, fits: int) -> Float64[np.ndarray, " parts"]:
        """Return the expected seconds of each part of a trial of so many fits."""
        plain = _plain(self.workload, config, fits, self.paid)
        dearer = np.array([self._dearer(part, config) for part in PARTS])
        own = self.effects.get(("config", config.key), 0.0)
        parts: Float64[np.ndarray, " parts"] = plain * np.exp(dearer + own)
        return parts

    def _dearer(self, part: Part, config: Config) -> float:
        return sum(self.effects.get(e, 0.0) for e in _effects_of(part, config))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """One trial, as the forecast learns from it."""

    config: Config
    parts: Float64[np.ndarray, " parts"]
    """What arithmetic says."""
    seconds: float
    """What it took."""
    is_least: bool = False
    """Whether it was stopped, and would have taken longer."""


def learn(lessons: Sequence[Lesson]) -> dict[Effect, float]:
    """Return the most probable effects, in logarithms, given some trials.

    Source:
        Bishop, Pattern Recognition and Machine Learning 2006, sec. 3.3 (the linear
        case); linearised anew in each round.
    """
    if not lessons:
        return {}
    rows = [[_effects_of(part, one.config) for part in PARTS] for one in lessons]
    names = sorted({effect for row in rows for found in row for effect in found})
    places = {name: place for place, name in enumerate(names)}
    touched = np.zeros((len(lessons), len(PARTS), len(names)))
    for index, row in enumerate(rows):
        for part, found in enumerate(row):
            touched[index, part, [places[effect] for effect in found]] = 1.0
    plain = np.array([one.parts for one in lessons])
    took = np.log([max(one.seconds, LEAST_SECONDS) for one in lessons])
    is_least = np.array([one.is_least for one in lessons])
    prior = np.diag([SPREAD[min(len(name) - 1, 1)] ** -2 for name in names])
    variance = NOISE**2 + OWN**2
    effects = np.zeros(len(names))
    for number in range(ROUNDS):
        seconds = plain * np.exp(touched @ effects)
        total = np.maximum(seconds.sum(axis=1), LEAST_SECONDS)
        slopes = np.einsum("lp,lpe->le", seconds / total[:, None], touched)
        missed = took - np.log(total)
        trust = np.where(is_least & (missed < 0), 0.0, 1.0) / variance
        if number >= TRUSTING_ROUNDS:
            trust /= 1.0 + missed**2 / (9 * variance)
        weighted = slopes.T * trust
        wanted = np.linalg.solve(
            weighted @ slopes + prior, weighted @ (missed + slopes @ effects)
        )
        effects += np.clip(wanted - effects, -STRIDE, STRIDE)
    left = took - np.log(
        np.maximum((plain * np.exp(touched @ effects)).sum(axis=1), LEAST_SECONDS)
    )
    return dict(zip(names, effects.tolist(), strict=True)) | _own(lessons, left)


def _own(
    lessons: Sequence[Lesson], left: Float64[np.ndarray, " lessons"]
) -> dict[Effect, float]:
    """Return how much dearer each Config was than its like, shrunken."""
    found: dict[Effect, list[float]] = {}
    for one, rest in zip(lessons, left.tolist(), strict=True):
        if not one.is_least or rest > 0:
            found.setdefault(("config", one.config.key), []).append(rest)
    return {
        name: float(np.sum(rests)) / (len(rests) + (NOISE / OWN) ** 2)
        for name, rests in found.items()
    }


def _effects_of(part: Part, config: Config) -> tuple[Effect, ...]:
    """Return the effects that a part of a Config's trial is subject to."""
    method, backbone = config.text("method"), str(config.get("backbone", ""))
    kinds: dict[Part, tuple[Effect, ...]] = {
        "load": (),
        "encode": ((part, backbone),),
        "train": ((part, method), (part, backbone)),
        "head": (
            (part, method, "" if is_dear(config) else str(config.get("head", ""))),
        ),
    }
    return ((part,), *kinds[part])


def _read(
    workload: Workload, history: History
) -> tuple[list[Lesson], frozenset[tuple[object, ...]]]:
    """Return what a history teaches, and what need not be paid for again.

    Trials on backbones that are not at hand any more teach nothing: nobody knows
    their sizes, and no trial to come is like them. What was paid for are loaded
    backbones and activations.
    """
    at_hand = {card.id for card in workload.cards}
    paid: set[tuple[object, ...]] = set()
    lessons = []
    for config, outcome in history:
        if "backbone" in config and config.text("backbone") not in at_hand:
            continue
        if outcome.status in ("done", "stopped") and outcome.cost_seconds > 0:
            fits = len(outcome.scores) or workload.fits(config)
            lessons.append(
                Lesson(
                    config=config,
                    parts=_plain(workload, config, fits, paid),
                    seconds=outcome.cost_seconds,
                    is_least=outcome.status == "stopped",
                )
            )
        if outcome.status in ("done", "running") and "backbone" in config:
            paid.update(_needs(workload, config))
    return lessons, frozenset(paid)


def _plain(
    workload: Workload,
    config: Config,
    fits: int,
    paid: Set[tuple[object, ...]],
) -> Float64[np.ndarray, " parts"]:
    """Return what arithmetic says of a trial."""
    if "backbone" not in config:
        return workload.parts(config, fits=fits, is_loaded=True, is_encoded=True)
    loaded, encoded = _needs(workload, config)
    return workload.parts(
        config, fits=fits, is_loaded=loaded in paid, is_encoded=encoded in paid
    )


def _needs(
    workload: Workload, config: Config
) -> tuple[tuple[object, ...], tuple[object, ...]]:
    """Return the names of the backbone and of the activations that a trial reads."""
    card = workload.card(config.text("backbone"))
    return (card.id,), activations(config, card.depth)
