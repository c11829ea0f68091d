"""How well predictions rank what was seen, the noise of the scores considered."""

import numpy as np
from jaxtyping import Float64

MOST_TRIALS = 64
"""Latest trials that are compared; pairs grow with the square."""
DRAWS = 128
"""Bootstrap draws of the scores."""
DOUBT = 5.0
"""Trials at which half of the weight goes by agreement with them."""
BELIEF = 3.0
"""Odds beforehand that advice is of use."""
USEFUL = 0.6
"""Rank correlation that useful advice is expected to have."""


def ranking_weights(
    predictions: Float64[np.ndarray, "studies trials"],
    means: Float64[np.ndarray, " trials"],
    errors: Float64[np.ndarray, " trials"],
    before: Float64[np.ndarray, " studies"],
) -> Float64[np.ndarray, " studies"]:
    """Return how much each study should count, by how well it ranks the trials.

    That is the share of bootstrap draws (of the trials, and of their scores within
    their noise) in which the study misranks fewest pairs, mixed with the weights
    beforehand: without trials only they count.

    Args:
        predictions: What each study says of each trial.
        means: What came of it.
        errors: Standard errors; NaN where unknown.
        before: Positive weights, of any sum.

    Source:
        Feurer et al., Practical Transfer Learning for Bayesian Optimization, 2022
        (arXiv:1802.02219); there only the scores are drawn.

    >>> right, wrong = np.arange(9.0), -np.arange(9.0)
    >>> weights = ranking_weights(
    ...     np.stack([right, wrong]), right, np.zeros(9), np.ones(2)
    ... )
    >>> weights.round(2).tolist()
    [0.82, 0.18]
    """
    before = before / before.sum()
    predictions = predictions[:, -MOST_TRIALS:]
    means, errors = means[-MOST_TRIALS:], _filled(errors[-MOST_TRIALS:])
    count = len(means)
    if count < 2 or len(before) < 2:
        return np.asarray(before, dtype=np.float64)
    generator = np.random.default_rng(0)
    drawn = means + errors * generator.standard_normal((DRAWS, count))
    weight = generator.exponential(size=(DRAWS, count))
    left, right = np.triu_indices(count, 1)
    order = np.sign(drawn[:, left] - drawn[:, right])
    order *= weight[:, left] * weight[:, right]
    agreed = order @ np.sign(predictions[:, left] - predictions[:, right]).T
    best = agreed >= agreed.max(axis=1, keepdims=True) - 1e-9
    shares = best * before
    won = (shares / shares.sum(axis=1, keepdims=True)).mean(axis=0)
    kept = DOUBT / (DOUBT + count)
    return np.asarray(kept * before + (1 - kept) * won, dtype=np.float64)


def trust(
    advice: Float64[np.ndarray, " trials"],
    means: Float64[np.ndarray, " trials"],
    errors: Float64[np.ndarray, " trials"],
) -> float:
    """Return the probability that advice is of use, given how it ranks the trials.

    Useful advice is expected to have Kendall's rank correlation `USEFUL` with the
    scores, useless advice 0; both spread as chance allows for so many trials.

    Args:
        advice: One number for each trial.
        means: What came of it.
        errors: Standard errors; NaN where unknown.

    Source:
        Kendall, Rank Correlation Methods, 1948, for the variance under chance.

    >>> scores, errors = np.arange(6.0), np.zeros(6)
    >>> [round(trust(sign * scores, scores, errors), 2) for sign in (1, 0, -1)]
    [0.99, 0.75, 0.01]
    """
    correlation, evidence = rank_correlation(advice, means, errors)
    favour = USEFUL * (correlation - USEFUL / 2) * evidence
    return float(1 / (1 + np.exp(-np.log(BELIEF) - favour)))


def rank_correlation(
    advice: Float64[np.ndarray, " trials"],
    means: Float64[np.ndarray, " trials"],
    errors: Float64[np.ndarray, " trials"],
) -> tuple[float, float]:
    """Return Kendall's correlation over pairs that differ, and how much it says.

    Pairs count by how sure their order is, and not at all where the advice makes no
    difference. (To count trials by how near they are to the top was worse: on recorded
    studies it silenced priors that were right about what matters.)

    Returns:
        The correlation, 0 without any such pair; and one over its variance under
        chance, less where noise hides the order of the pairs.
    """
    from scipy.special import ndtr  # here, for a quick start elsewhere

    advice, means = advice[-MOST_TRIALS:], means[-MOST_TRIALS:]
    errors = _filled(errors[-MOST_TRIALS:])
    count = len(means)
    left, right = np.triu_indices(count, 1)
    said = np.sign(advice[left] - advice[right])
    noise = np.maximum(np.hypot(errors[left], errors[right]), 1e-12)
    seen = 2 * ndtr((means[left] - means[right]) / noise) - 1
    told = np.abs(seen) * (said != 0)
    if not told.any():
        return 0.0, 0.0
    correlation = float(said @ seen / told.sum())
    variance = 2 * (2 * count + 5) / (9 * count * (count - 1))
    return correlation, float(told.mean() / variance)


def _filled(errors: Float64[np.ndarray, " trials"]) -> Float64[np.ndarray, " trials"]:
    """Return standard errors, the median of the known ones where one is not known."""
    known = errors[np.isfinite(errors)]
    usual = float(np.median(known)) if len(known) else 0.0
    return np.asarray(np.where(np.isfinite(errors), errors, usual), dtype=np.float64)
