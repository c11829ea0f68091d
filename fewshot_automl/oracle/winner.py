"""Which trial of a history is the best, luck set aside."""

import logging

import numpy as np
from jaxtyping import Float64
from numpy.linalg import LinAlgError

from fewshot_automl.oracle.advice import Adviser
from fewshot_automl.oracle.evidence import Evidence
from fewshot_automl.oracle.steadied import comparable_scores
from fewshot_automl.outcome import History
from fewshot_automl.space import Space

logger = logging.getLogger(__name__)

LEAST_FOR_SURROGATE = 6
"""Done trials below which a Gaussian process is more guess than evidence."""
MOST_LUCK = 2.0
"""Standard errors that a score may have been below its Config's worth."""
FIT_STEPS = 60
"""Most optimiser steps of the fit."""
LEAST_KEPT = 1e-3
"""Share of a score's distance from the mean that is kept where all of it may be luck:
the better score is still the better guess."""
MOST_ERROR = 1e100
"""Standard errors beyond this, in units of the widest score, are taken as this."""


def incumbent(
    space: Space,
    history: History,
    seed: int,
    advisers: tuple[Adviser, ...] = (),
) -> int | None:
    """Return where in the history the best done trial stands, None without any.

    The best has the highest of `smoothed_scores`. Ties go to the higher raw score,
    then to the earlier trial.

    Args:
        space: Where the Configs live.
        history: Trials so far; only done ones count.
        seed: Makes the fit repeatable; not negative.
        advisers: Those of the search.
    """
    smooth = smoothed_scores(space, history, seed, advisers)
    return max(smooth, key=lambda i: (smooth[i], history[i][1].mean, -i), default=None)


def smoothed_scores(
    space: Space,
    history: History,
    seed: int,
    advisers: tuple[Adviser, ...] = (),
) -> dict[int, float]:
    """Return for each done trial, by its place in the history, its score without luck.

    With enough trials that `space` can encode, that is the posterior mean of the
    Gaussian process, which sets a score beside those of similar Configs and weighs
    it by its standard error. Below that, and for trials that cannot be encoded,
    scores are shrunk towards their common mean by as much as their noise explains
    (empirical Bayes).

    Args:
        space: Where the Configs live.
        history: Trials so far; only done ones count.
        seed: Makes the fit repeatable; not negative.
        advisers: Those of the search; what they know counts here too.

    Source:
        Efron and Morris, JASA 1973, for the shrinkage.
    """
    done = [i for i, (_, outcome) in enumerate(history) if outcome.is_done]
    if not done:
        return {}
    means, variances = comparable_scores(history, done)
    own = np.array([history[i][1].mean for i in done])
    errors = np.sqrt(variances)
    shrunk = shrunken(means, errors).tolist()
    smooth = dict(zip(done, shrunk, strict=True))
    evidence = Evidence.of(space, history, advisers)
    if evidence.teaches(LEAST_FOR_SURROGATE):
        known = _posterior_means(evidence, seed)
        smooth |= {i: known[i] for i in known if i in smooth}
    highest = dict(zip(done, (own + _most_luck(errors)).tolist(), strict=True))
    return {i: min(score, highest[i]) for i, score in smooth.items()}


def _most_luck(
    errors: Float64[np.ndarray, " trials"],
) -> Float64[np.ndarray, " trials"]:
    """Return how far a score may be raised by those of similar Configs.

    A trial that went wrong in some folds has a large standard error, and would be taken
    for one that says nothing.
    """
    known = errors[np.isfinite(errors)]
    if not len(known):
        return np.full(len(errors), np.inf)
    usual = float(np.median(known))
    own = np.where(np.isfinite(errors), errors, usual)
    return np.asarray(MOST_LUCK * np.maximum(own, usual))


def shrunken(
    means: Float64[np.ndarray, " trials"], errors: Float64[np.ndarray, " trials"]
) -> Float64[np.ndarray, " trials"]:
    """Return scores, each pulled to the common mean by its share of noise.

    Args:
        means: Raw scores.
        errors: Their standard errors; NaN counts as the median of the known ones.

    >>> shrunken(np.array([0.6, 0.9]), np.array([0.0, 0.0])).tolist()
    [0.6, 0.9]
    """
    finite = errors[np.isfinite(errors)]
    missing = float(np.median(finite)) if len(finite) else 0.0
    away = means - means.mean()
    # Divided by the largest first, so that squares neither overflow nor vanish.
    size = float(np.abs(away).max()) or 1.0
    known = np.where(np.isfinite(errors), errors, missing)
    noise = (np.minimum(known, MOST_ERROR * size) / size) ** 2
    spread = float((away / size).var() - noise.mean()) if len(means) > 1 else 0.0
    total = max(spread, 0.0) + noise
    kept = np.divide(max(spread, 0.0), total, out=np.ones_like(total), where=total > 0)
    kept = np.maximum(kept, LEAST_KEPT)
    return np.asarray(means - (1 - kept) * away, dtype=np.float64)


def _posterior_means(evidence: Evidence, seed: int) -> dict[int, float]:
    """Return the surrogate's means by place; nothing where it cannot be fitted."""
    # Only here, to keep scipy's optimisers out of what only lists oracles.
    from fewshot_automl.oracle.linear import single_threaded
    from fewshot_automl.oracle.surrogate import SurrogateError, fit_scores

    try:
        with single_threaded():
            surrogate = fit_scores(evidence, steps=FIT_STEPS, seed=seed)
            known = surrogate.evidence
            means = surrogate.means(known.rows("done")).tolist()
            return dict(zip(known.indices("done"), means, strict=True))
    except (SurrogateError, LinAlgError) as error:
        logger.warning("Shrunken means instead of posterior means: %s", error)
        return {}
