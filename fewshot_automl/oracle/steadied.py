"""Scores with less luck in them.

A score of a few dozen examples is a count of right answers, and moves in steps. What
the same predictions lose in refinement (`outcome.REFINEMENT`) goes by how far from
wrong each answer was, so it ranks trials with less luck; but it is not the score.
Each score is therefore moved towards the one that its refinement lets expect.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Float64

from fewshot_automl.outcome import REFINEMENT, History

WEIGHT: Final = 0.7
"""How far a score is moved towards the expected one."""
LEAST_PAIRS: Final = 6
"""Whole trials below which they do not tell what score to expect."""
FENCE: Final = 3.0
"""Quartile distances below the lower quartile at which a score is far out, and would
take over the line; as in `surrogate.standardised`."""


def comparable_scores(
    history: History, indices: Sequence[int]
) -> tuple[Float64[np.ndarray, " trials"], Float64[np.ndarray, " trials"]]:
    """Return the steadied scores of trials and their variances.

    If a done trial does not tell its refinement, as in a history of an earlier
    version, nothing is moved: the luckiest of those left alone would lead.

    Args:
        history: All trials.
        indices: Where the trials that are wanted stand in it; they are done.

    Returns:
        Scores, and squared standard errors of what they were before they were moved;
        NaN where nothing is known of them.
    """
    every = [i for i, (_, outcome) in enumerate(history) if outcome.is_done]
    means = np.array([history[i][1].mean for i in every], dtype=np.float64)
    losses = _told(history, every, REFINEMENT)
    if np.isfinite(losses).all():
        means = steadied(means, losses, means, losses)
    scores = dict(zip(every, means.tolist(), strict=True))
    errors = np.array([history[i][1].standard_error for i in indices])
    with np.errstate(over="ignore"):
        return np.array([scores[i] for i in indices]), errors * errors


def _told(
    history: History, indices: Sequence[int], name: str
) -> Float64[np.ndarray, " trials"]:
    values = [history[i][1].measures.get(name, math.nan) for i in indices]
    return np.array(values, dtype=np.float64)


def steadied(
    scores: Float64[np.ndarray, " trials"],
    losses: Float64[np.ndarray, " trials"],
    known_scores: Float64[np.ndarray, " others"],
    known_losses: Float64[np.ndarray, " others"],
) -> Float64[np.ndarray, " trials"]:
    """Return scores, each moved towards what its loss lets expect.

    The expected score is that of the least-squares line through the known scores and
    losses; no loss counts for more than the greatest known one, or for less than the
    least. If the line would rise with the loss, or if few losses are known, nothing is
    moved, and no score is that is far below all others.

    Args:
        scores: Greater is better.
        losses: Less is better; NaN where unknown.
        known_scores: Those that the line is drawn through.
        known_losses: Theirs; NaN where unknown.

    >>> losses = np.array([0.4, 0.6, 0.8, 1.0, 1.2, 1.4])
    >>> scores = np.array([0.8, 0.9, 0.7, 0.5, 0.4, 0.3])
    >>> steadied(scores, losses, scores, losses).round(2).tolist()
    [0.87, 0.82, 0.67, 0.53, 0.41, 0.3]
    """
    told = np.isfinite(known_losses)
    if told.sum() < LEAST_PAIRS:
        return scores
    lower, upper = np.quantile(known_scores[told], [0.25, 0.75])
    least = lower - FENCE * (upper - lower) if upper > lower else -np.inf
    own, known = np.maximum(known_scores[told], least), known_losses[told]
    away = known - known.mean()
    size = float(np.abs(own).max()) or 1.0  # lest products overflow
    spread = float(away @ away)
    slope = float(away @ (own / size)) / spread if spread > 0 else 0.0
    if not slope < 0:
        return scores
    within = np.clip(losses, known.min(), known.max()) - known.mean()
    expected = own.mean() + size * slope * within
    is_moved = np.isfinite(losses) & (scores >= least)
    return np.where(is_moved, scores + WEIGHT * (expected - scores), scores)
