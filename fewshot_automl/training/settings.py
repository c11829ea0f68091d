"""How long and how hard to train, and how the learning rate moves meanwhile."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

Schedule = Callable[[int, int, float], float]
"""Takes step (from 0), steps and warm-up fraction; returns a multiplier in (0, 1]."""

IDLE_SHARE: Final = 0.01
"""Of all learning rates of a run; what its last steps share below this is not worth
making them."""


def _warmed(
    after: Callable[[float], float], step: int, steps: int, warmup_fraction: float
) -> float:
    # The warm-up starts above 0: a few-shot run may have eight steps, and a step at
    # learning rate 0 is a step wasted.
    warm = min(int(warmup_fraction * steps), steps - 1)
    if step < warm:
        return (step + 1) / (warm + 1)
    return after((step - warm) / (steps - warm))


def _one_cycle(step: int, steps: int, warmup_fraction: float) -> float:
    """Return a multiplier that starts at 1/25 and ends at 1/250,000.

    Source:
        Smith and Topin, 2017 (arXiv:1708.07120), with the constants of
        ``torch.optim.lr_scheduler.OneCycleLR``, which refuses runs of one step.
    """
    if steps == 1:
        return 1.0
    start = 1 / 25
    peak = warmup_fraction * steps - 1
    if step <= peak:
        return _half_cosine(start, 1.0, step / peak if peak > 0 else 1.0)
    return _half_cosine(1.0, start / 1e4, (step - peak) / (steps - 1 - peak))


def _half_cosine(start: float, end: float, at: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * at))


SCHEDULES: Final[dict[str, Schedule]] = {
    "constant": partial(_warmed, lambda at: 1.0),
    "linear": partial(_warmed, lambda at: 1.0 - at),
    "cosine": partial(_warmed, lambda at: _half_cosine(1.0, 0.0, at)),
    "one_cycle": _one_cycle,
}
"""After a linear warm-up: staying, falling to 0 in a straight line, or along half a
cosine (Loshchilov and Hutter, ICLR 2017, eq. 5, one period). The last rises, for the
warm-up fraction, and falls along half cosines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """Says how long and how hard to train.

    >>> TrainingSettings(steps=40, batch_size=32, learning_rate=2e-4).useful_steps
    33
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
    """A name in `SCHEDULES`."""
    warmup_fraction: float = 0.1
    """Share of the steps in which the learning rate rises, in [0, 1)."""
    max_grad_norm: float = 1.0
    """Gradients longer than this are shortened to it."""
    converged_loss: float = 0.0
    """The run ends early after so many steps in a row below this; 0 never does."""
    converged_steps: int = 5
    """How many steps; an epoch at least, or what is hard may not have been seen."""
    seed: int = 0
    """Decides dropout; the order of examples is the sampler's."""

    def multiplier(self, step: int) -> float:
        """Return what a step multiplies its peak learning rates with."""
        return SCHEDULES[self.schedule](step, self.steps, self.warmup_fraction)

    @property
    def useful_steps(self) -> int:
        """Return after how many steps the rest changes nothing to speak of.

        A schedule that falls to 0 ends in steps whose learning rates together are
        below `IDLE_SHARE` of the run's; they cost as much as any others.
        """
        rates = [self.multiplier(step) for step in range(self.steps)]
        left = IDLE_SHARE * sum(rates)
        useful = self.steps
        while useful > 1 and rates[useful - 1] < max(rates) / 10:
            left -= rates[useful - 1]
            if left < 0:
                break
            useful -= 1
        return useful

    def has_converged(self, losses: Sequence[float]) -> bool:
        """Return whether a run with these losses may end early."""
        last = losses[-self.converged_steps :]
        return len(last) == self.converged_steps and max(last) < self.converged_loss
