"""What a run is given and what it reports."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fewshot_automl.errors import ShapeError, unknown_name
from fewshot_automl.training.schedules import SCHEDULES, useful_steps


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """Says how long and how hard to train.

    >>> TrainingSettings(steps=40, batch_size=32, learning_rate=2e-4).schedule
    'one_cycle'
    """

    steps: int
    """Updates of the weights."""
    batch_size: int
    """Examples an update is meant to see, over all processes."""
    learning_rate: float
    """Peak learning rate."""
    head_learning_rate: float | None = None
    """Peak learning rate of what lies under ``module.head``; `None`: the same."""
    weight_decay: float = 0.01
    """AdamW's decoupled decay; biases, norms and other vectors are spared."""
    schedule: str = "one_cycle"
    """A name in `schedules.SCHEDULES`."""
    warmup_fraction: float = 0.1
    """Share of the steps in which the learning rate rises, in [0, 1)."""
    max_grad_norm: float = 1.0
    """Gradients longer than this are shortened to it; infinity never does."""
    converged_loss: float = 0.0
    """The run ends early after so many steps in a row below this; 0 never does."""
    converged_steps: int = 5
    """How many steps; an epoch at least, or what is hard may not have been seen."""
    seed: int = 0
    """Decides dropout; the order of examples is the sampler's."""

    def __post_init__(self) -> None:
        """Check every range."""
        rates = {
            name: value
            for name in ("learning_rate", "head_learning_rate", "max_grad_norm")
            if (value := getattr(self, name)) is not None
        }
        for name in ("steps", "batch_size", "converged_steps"):
            _require(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        for name, value in rates.items():
            _require(name, value, value > 0, "greater than 0")
        for name, value in {**rates, "weight_decay": self.weight_decay}.items():
            is_finite = name == "max_grad_norm" or math.isfinite(value)
            _require(name, value, is_finite, "finite")
        for name in ("weight_decay", "converged_loss", "seed"):
            _require(name, getattr(self, name), getattr(self, name) >= 0, "0 or more")
        is_share = 0 <= self.warmup_fraction < 1
        _require("warmup_fraction", self.warmup_fraction, is_share, "in [0, 1)")
        if self.schedule not in SCHEDULES:
            raise unknown_name(
                "schedule", self.schedule, SCHEDULES, "training.schedules.SCHEDULES"
            )

    @property
    def useful_steps(self) -> int:
        """Return how many of the steps are made: idle ones at the end are not."""
        return useful_steps(self.schedule, self.steps, self.warmup_fraction)

    def multiplier(self, step: int) -> float:
        """Return what a step multiplies its peak learning rates with."""
        return SCHEDULES[self.schedule](step, self.steps, self.warmup_fraction)

    def has_converged(self, losses: Sequence[float]) -> bool:
        """Return whether a run with these losses may end early."""
        last = losses[-self.converged_steps :]
        return len(last) == self.converged_steps and max(last) < self.converged_loss


def _require(name: str, value: object, is_allowed: bool, allowed: str) -> None:
    if not is_allowed:
        raise ShapeError(f"{name} must be {allowed}, got {value}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingLog:
    """Says what happened in a run."""

    losses: tuple[float, ...]
    """Loss of each step, over the whole batch."""
    seconds: float
    """Wall time."""
    parts: int
    """Pieces in which the examples of a step were run for lack of memory; 1 is none."""

    @property
    def steps(self) -> int:
        """Return the number of updates made."""
        return len(self.losses)
