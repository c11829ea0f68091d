"""How long a trial will take, before and after trials like it have been seen."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from fewshot_automl.adaptation.encodings import POOLED
from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.adaptation.tuned import VIEWS
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config
from fewshot_automl.task import Modality
from fewshot_automl.trial.workbench import Workbench

History = Sequence[tuple[Config, Outcome]]

EFFICIENCY: Final[dict[Modality, float]] = {"text": 0.5, "image": 0.25}
"""Share of the matrix-product rate that an encoder reaches, before any trial; the
depthwise convolutions of small image encoders are far from matrix products."""
HEAD_SECONDS: Final = 0.05
"""Of fitting one head, before any trial."""
TOKENS_PER_CHARACTER: Final = 0.25
MATRIX: Final = 768
PRODUCTS: Final = 5


def matrix_product_rate(device: str = "cpu") -> float:
    """Measure floating-point operations per second of a float32 matrix product.

    Args:
        device: Where, as `torch.device` spells it.
    """
    left = torch.ones((MATRIX, MATRIX), device=device)
    float((left @ left)[0, 0])  # warm; reading a number waits for the device
    start = time.perf_counter()
    for _ in range(PRODUCTS):
        product = left @ left
    float(product[0, 0])
    return PRODUCTS * 2 * MATRIX**3 / max(time.perf_counter() - start, 1e-9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Predicts seconds from arithmetic, corrected by what trials really took."""

    workbench: Workbench
    """Problem and cards."""
    rate: float
    """Floating-point operations per second that a small encoder reaches here."""

    @classmethod
    def measured(cls, workbench: Workbench) -> "Forecast":
        """Return a forecast for this machine, measuring it for some milliseconds."""
        share = EFFICIENCY[workbench.problem.task.modality]
        return cls(
            workbench=workbench,
            rate=share * matrix_product_rate(workbench.placement.device),
        )

    def embedding_seconds(self, backbone: str, history: History = ()) -> float:
        """Return the seconds for pushing every example through a backbone once."""
        count = len(self.workbench.problem.inputs)
        seconds = self._forward_flops(backbone) * count / self.rate
        paid = [
            outcome.cost_seconds
            / max(setup + self._folds_seconds(config, outcome), 1e-3)
            for index, (config, outcome) in enumerate(history)
            if outcome.is_done
            and (setup := self._setup_seconds(config, history[:index])) > 0
        ]
        return seconds * (float(np.median(paid)) if paid else 1.0)

    def trial_seconds(self, config: Config, history: History) -> float:
        """Return the expected seconds of a trial with all its folds."""
        fits = self._fits(config) * self._fold(config)
        expected = self._setup_seconds(config, history) + fits
        return expected * self._correction(config, history)

    def refit_seconds(self, config: Config, history: History) -> float:
        """Return the expected seconds of fitting a Config to all examples."""
        seen = [o.cost_seconds for c, o in history if c == config and o.is_done]
        if seen:
            return 1.25 * seen[-1] / self._fits(config)
        return self.trial_seconds(config, history) / self._fits(config)

    def scoring_seconds(self, config: Config, history: History, count: int) -> float:
        """Return the expected seconds of predicting for `count` new examples."""
        if "backbone" not in config:
            return 0.0
        seconds = self.embedding_seconds(config.text("backbone"), history)
        return seconds * count / len(self.workbench.problem.inputs)

    def _fits(self, config: Config) -> int:
        """Return how many fits a trial makes: quick methods repeat their folds."""
        folds = self.workbench.problem.folds
        return len(folds.first) if _is_dear(config) else len(folds)

    def _fold(self, config: Config) -> float:
        """Return seconds of arithmetic for one fit."""
        if not _is_dear(config):
            return HEAD_SECONDS
        forward = self._forward_flops(config.text("backbone"))
        trained = 1.0 - float(config.get("frozen_fraction", 0.0))
        passes = 3.0 * trained  # forward, and backward twice as dear
        count = len(self.workbench.problem.inputs)
        steps = int(config["steps"]) * int(config["batch_size"])
        return forward * (steps * passes + count * trained) / self.rate + HEAD_SECONDS

    def _folds_seconds(self, config: Config, outcome: Outcome) -> float:
        """Return seconds of arithmetic for the fits that a trial made."""
        return len(outcome.scores) * self._fold(config)

    def _setup_seconds(self, config: Config, history: History) -> float:
        """Return seconds for activations that no trial has asked for yet."""
        if "backbone" not in config:
            return 0.0
        wanted = _activations(config)
        if any(o.is_done and _activations(c) == wanted for c, o in history):
            return 0.0
        views = VIEWS if config.get("augmentation", "none") == "light" else 1
        return views * self.embedding_seconds(config.text("backbone"))

    def _correction(self, config: Config, history: History) -> float:
        """Return the median of true over expected seconds, of the most similar kind."""
        for alike in (_same_kind, _same_dearness):
            ratios = [
                outcome.cost_seconds
                / max(
                    self._setup_seconds(other, history[:index])
                    + self._folds_seconds(other, outcome),
                    1e-3,
                )
                for index, (other, outcome) in enumerate(history)
                if outcome.is_done and alike(config, other)
            ]
            if ratios:
                return float(np.median(ratios))
        return 1.0

    def _forward_flops(self, backbone: str) -> float:
        """Return operations for one example; texts count by their length."""
        card = self.workbench.card(backbone)
        if card.modality != "text":
            return float(card.flops)
        texts = self.workbench.problem.inputs
        characters = float(np.mean([len(str(text)) for text in texts]))
        tokens = 2.0 + TOKENS_PER_CHARACTER * characters
        return float(card.flops * min(tokens / card.flops_at, 1.0))


def _is_dear(config: Config) -> bool:
    return METHODS[config.text("method")].is_dear


def _activations(config: Config) -> tuple[object, ...]:
    """Return what names the activations that a Config reads."""
    return (
        config.get("backbone", ""),
        config.get("frozen_fraction", POOLED),
        config.get("augmentation", "none"),
    )


def _same_kind(left: Config, right: Config) -> bool:
    return all(left.get(n, "") == right.get(n, "") for n in ("method", "backbone"))


def _same_dearness(left: Config, right: Config) -> bool:
    return _is_dear(left) == _is_dear(right)
