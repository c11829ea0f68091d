"""Scores that can be compared: of the same folds, and with less luck in them.

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

from fewshot_automl.oracle.folds import fold_adjusted
from fewshot_automl.oracle.oracle import History
from fewshot_automl.outcome import FIRST_REFINEMENT, REFINEMENT

WEIGHT: Final = 0.7
"""How far a score is moved towards the expected one."""
LEAST_PAIRS: Final = 6
"""Trials with a refinement, below which they do not tell what score to expect."""


def comparable_scores(
    history: History, indices: Sequence[int]
) -> tuple[Float64[np.ndarray, " trials"], Float64[np.ndarray, " trials"]]:
    """Return the scores of trials as if all folds were run, steadied, and variances.

    A trial that has only looked at its first folds is set beside whole ones by what
    both lose on these folds: the score to expect is that of all folds.

    Args:
        history: All trials.
        indices: Where the trials that are wanted stand in it; they are done.

    Returns:
        Scores, and squared standard errors of what they were before they were moved;
        NaN where nothing is known of them.
    """
    scores, variances = fold_adjusted(history, indices)
    outcomes = [history[i][1] for i in indices]
    is_whole = np.array([outcome.is_whole for outcome in outcomes], dtype=bool)
    losses, first = (
        np.array([o.objectives.get(name, math.nan) for o in outcomes])
        for name in (REFINEMENT, FIRST_REFINEMENT)
    )
    whole = scores[is_whole]
    scores[is_whole] = steadied(whole, losses[is_whole], whole, losses[is_whole])
    if not is_whole.all():
        scores[~is_whole] = steadied(
            scores[~is_whole], first[~is_whole], scores[is_whole], first[is_whole]
        )
    return scores, variances


def steadied(
    scores: Float64[np.ndarray, " trials"],
    losses: Float64[np.ndarray, " trials"],
    known_scores: Float64[np.ndarray, " others"],
    known_losses: Float64[np.ndarray, " others"],
) -> Float64[np.ndarray, " trials"]:
    """Return scores, each moved towards what its loss lets expect.

    The expected score is that of the least-squares line through the known scores and
    losses. If that would rise with the loss, or if few losses are known, nothing is
    moved.

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
    own, middle = known_scores[told], known_losses[told].mean()
    away = known_losses[told] - middle
    size = float(np.abs(own).max()) or 1.0  # lest products overflow
    spread = float(away @ away)
    slope = float(away @ (own / size)) / spread if spread > 0 else 0.0
    if not slope < 0:
        return scores
    expected = own.mean() + size * slope * (losses - middle)
    return np.where(np.isfinite(losses), scores + WEIGHT * (expected - scores), scores)
