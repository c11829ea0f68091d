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
from fewshot_automl.outcome import REFINEMENT

WEIGHT: Final = 0.7
"""How far a score is moved towards the expected one."""
LEAST_PAIRS: Final = 6
"""Trials with a refinement, below which they do not tell what score to expect."""


def comparable_scores(
    history: History, indices: Sequence[int]
) -> tuple[Float64[np.ndarray, " trials"], Float64[np.ndarray, " trials"]]:
    """Return the scores of trials as if all folds were run, steadied, and variances.

    Trials that have only looked at their first folds stand as `fold_adjusted` has
    them: refinements of some examples do not compare with those of all.

    Args:
        history: All trials.
        indices: Where the trials that are wanted stand in it; they are done.

    Returns:
        Scores, and squared standard errors of what they were before they were moved;
        NaN where nothing is known of them.
    """
    means, variances = fold_adjusted(history, indices)
    losses = np.full(len(means), math.nan)
    for place, i in enumerate(indices):
        if history[i][1].is_whole:
            losses[place] = history[i][1].objectives.get(REFINEMENT, math.nan)
    return steadied(means, losses), variances


def steadied(
    scores: Float64[np.ndarray, " trials"], losses: Float64[np.ndarray, " trials"]
) -> Float64[np.ndarray, " trials"]:
    """Return scores, each moved towards what its loss lets expect.

    The expected score is that of the least-squares line through scores and losses. If
    that would rise with the loss, or if few losses are known, nothing is moved.

    Args:
        scores: Greater is better.
        losses: Less is better; NaN where unknown.

    >>> losses = np.array([0.4, 0.6, 0.8, 1.0, 1.2, 1.4])
    >>> steadied(np.array([0.8, 0.9, 0.7, 0.5, 0.4, 0.3]), losses).round(2).tolist()
    [0.87, 0.82, 0.67, 0.53, 0.41, 0.3]
    """
    known = np.isfinite(losses)
    if known.sum() < LEAST_PAIRS:
        return scores
    own, away = scores[known], losses[known] - losses[known].mean()
    size = float(np.abs(own).max()) or 1.0  # lest products overflow
    spread = float(away @ away)
    slope = float(away @ (own / size)) / spread if spread > 0 else 0.0
    if not slope < 0:
        return scores
    expected = own.mean() + size * slope * away
    found = scores.copy()
    found[known] = own + WEIGHT * (expected - own)
    return found
