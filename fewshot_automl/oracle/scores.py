"""Scores made ready for a surrogate: with less luck, no far outliers, one scale."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float64

from fewshot_automl.outcome import REFINEMENT, History

Values = Float64[np.ndarray, "..."]

WEIGHT: Final = 0.7
"""How far a score is moved towards the one that its refinement lets expect."""
LEAST_PAIRS: Final = 6
"""Done trials below which they do not tell what score to expect."""
FENCE: Final = 3.0
"""Quartile distances below the lower quartile at which a score is far out (Tukey)."""


def done_scores(history: History, regularise: bool) -> dict[int, tuple[float, float]]:
    """Return score and standard error of each done trial, by place.

    A missing error is the median of the others, NaN if there is none. If one trial does
    not tell its refinement none is regularised: the luckiest of the others would lead.
    """
    done = [i for i, (_, outcome) in enumerate(history) if outcome.is_done]
    outcomes = [history[i][1] for i in done]
    scores = np.array([outcome.mean for outcome in outcomes], dtype=np.float64)
    losses = np.array([o.measures.get(REFINEMENT, math.nan) for o in outcomes])
    errors = np.array([outcome.standard_error for outcome in outcomes])
    if regularise and np.isfinite(losses).all():
        scores = regularised(scores, losses)
    known = np.isfinite(errors)
    errors = np.where(
        known, errors, np.median(errors[known]) if known.any() else np.nan
    )
    return dict(
        zip(done, zip(scores.tolist(), errors.tolist(), strict=True), strict=True)
    )


def regularised(scores: Values, losses: Values) -> Values:
    """Return scores, each moved towards what its loss lets expect.

    A score of a few dozen examples is a count of right answers. What the same
    predictions lose in refinement goes by how far from wrong each answer was, so it
    ranks trials with less luck; but it is not the score. The expected score is that of
    the least-squares line through all, if it falls with the loss. No score is moved
    that is far below all others.

    >>> losses = np.array([0.4, 0.6, 0.8, 1.0, 1.2, 1.4])
    >>> scores = np.array([0.8, 0.9, 0.7, 0.5, 0.4, 0.3])
    >>> regularised(scores, losses).round(2).tolist()
    [0.87, 0.82, 0.67, 0.53, 0.41, 0.3]
    """
    if len(scores) < LEAST_PAIRS or np.ptp(losses) == 0 or np.ptp(scores) == 0:
        return scores
    fenced = winsorised(scores)
    away = losses - losses.mean()
    slope = float(away @ fenced) / float(away @ away)
    if not slope < 0:
        return scores
    expected = fenced.mean() + slope * away
    moved = scores + WEIGHT * (expected - scores)
    return np.asarray(np.where(scores < fenced, scores, moved), dtype=np.float64)


def winsorised(scores: Values) -> Values:
    """Return scores, those far below all others moved up to a fence.

    A diverged training would flatten every other difference.
    """
    lower, upper = np.quantile(scores, [0.25, 0.75])
    if upper > lower:
        scores = np.maximum(scores, lower - FENCE * (upper - lower))
    return np.asarray(scores, dtype=np.float64)


def differ(values: Values) -> bool:
    """Return whether two values differ by more than rounding."""
    return len(values) > 1 and bool(np.ptp(values) > 1e-12 * np.abs(values).max())


@dataclass(frozen=True, slots=True)
class Scale:
    """Brings numbers to mean 0 and standard deviation 1, more being better.

    Costs (parameters, milliseconds) are compared by their ratios.

    >>> scale = Scale.of(np.array([1.0, 100.0]), is_cost=True)
    >>> scale(np.array([1.0, 10.0, 100.0])).round(2).tolist()
    [1.0, 0.0, -1.0]
    """

    sign: float
    """1 where more is better, -1 where less is."""
    floor: float | None
    """Least value that has a logarithm of its own; None where differences count."""
    centre: float = 0.0
    """What 0 stands for."""
    unit: float = 1.0
    """What 1 stands for, less the centre."""

    @classmethod
    def of(cls, values: Values, *, is_cost: bool) -> "Scale":
        """Return the scale of values, of which those far below are moved up."""
        has_ratios = is_cost and values.min() >= 0 < values.max()
        floor = float(values[values > 0].min()) / 10 if has_ratios else None
        raw = cls(-1.0 if is_cost else 1.0, floor)
        fenced = winsorised(raw(values))
        unit = float(fenced.std()) if differ(fenced) else 1.0
        return cls(raw.sign, floor, float(fenced.mean()), unit)

    def __call__(self, values: Values) -> Values:
        """Return values on the standard scale."""
        if self.floor is not None:
            values = np.log(np.maximum(values, self.floor))
        return np.asarray((self.sign * values - self.centre) / self.unit)


@contextmanager
def calm(seed: int) -> Iterator[None]:
    """Make torch's draws repeatable and keep expected warnings from the user.

    GPyTorch's import meets a deprecation of torch. BoTorch warns of a fit that stops at
    its last step, and of jitter added to a covariance; both are harmless here.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit", FutureWarning)
        warnings.filterwarnings("ignore", ".*torch.jit", DeprecationWarning)
        # Only here: these libraries take some seconds to import.
        from botorch.exceptions import BotorchWarning
        from botorch.utils.sampling import manual_seed
        from linear_operator.utils.warnings import NumericalWarning

        for category in (BotorchWarning, NumericalWarning):
            warnings.simplefilter("ignore", category)
        with manual_seed(seed):
            yield
