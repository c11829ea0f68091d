"""How the learning rate moves through a run: multipliers of its peak."""

import functools
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

Schedule = Callable[[int, int, float], float]
"""Takes step (from 0), steps and warm-up fraction; returns a multiplier in (0, 1]."""

IDLE_SHARE: Final = 0.01
"""Of all learning rates of a run; what its last steps share below this is not worth
making them."""


def constant(step: int, steps: int, warmup_fraction: float) -> float:
    """Return 1 after a linear warm-up.

    The warm-up starts above 0: a few-shot run may have eight steps, and a step at
    learning rate 0 is a step wasted.

    >>> [constant(step, 8, 0.5) for step in range(5)]
    [0.2, 0.4, 0.6, 0.8, 1.0]
    """
    warm = _warm_steps(steps, warmup_fraction)
    return min(1.0, (step + 1) / (warm + 1))


def linear(step: int, steps: int, warmup_fraction: float) -> float:
    """Return a multiplier that falls to 0 in a straight line after the warm-up.

    >>> [linear(step, 4, 0.0) for step in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    """
    warm = _warm_steps(steps, warmup_fraction)
    if step < warm:
        return constant(step, steps, warmup_fraction)
    return 1.0 - (step - warm) / (steps - warm)


def cosine(step: int, steps: int, warmup_fraction: float) -> float:
    """Return a multiplier that falls to 0 along half a cosine after the warm-up.

    Source:
        Loshchilov and Hutter, ICLR 2017, eq. 5, one period.
    """
    warm = _warm_steps(steps, warmup_fraction)
    if step < warm:
        return constant(step, steps, warmup_fraction)
    return _half_cosine(1.0, 0.0, (step - warm) / (steps - warm))


def one_cycle(step: int, steps: int, warmup_fraction: float) -> float:
    """Return a multiplier that rises and falls along half cosines.

    It starts at 1/25 and ends at 1/250,000; the warm-up fraction is the rise.

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


def _warm_steps(steps: int, warmup_fraction: float) -> int:
    return min(int(warmup_fraction * steps), steps - 1)


SCHEDULES: Final[Mapping[str, Schedule]] = MappingProxyType(
    {each.__name__: each for each in (constant, linear, cosine, one_cycle)}
)
"""Every schedule by its name."""


@functools.cache
def useful_steps(schedule: str, steps: int, warmup_fraction: float) -> int:
    """Return after how many steps of a run the rest changes nothing to speak of.

    A schedule that falls to 0 ends in steps whose learning rates together are below
    `IDLE_SHARE` of the run's; they cost as much as any others.

    >>> useful_steps("constant", 40, 0.1), useful_steps("one_cycle", 40, 0.1)
    (40, 33)
    """
    rate = SCHEDULES[schedule]
    rates = [rate(step, steps, warmup_fraction) for step in range(steps)]
    left = IDLE_SHARE * sum(rates)
    useful = steps
    while useful > 1 and rates[useful - 1] < max(rates) / 10:
        left -= rates[useful - 1]
        if left < 0:
            break
        useful -= 1
    return useful
