"""Scores that follow from a confusion matrix, many matrices at a time.

Rows are labels, columns predictions; counts may be fractions (examples weighted, or
averaged over repeats). A matrix without any count has NaN as its score.
"""

import numpy as np
from jaxtyping import Float, Float64, Int

Counts = Float64[np.ndarray, "cases classes classes"]
Scores = Float64[np.ndarray, " cases"]


def confusion(
    labels: Int[np.ndarray, " examples"], proba: Float[np.ndarray, "examples classes"]
) -> Float64[np.ndarray, "classes classes"]:
    """Return how often each label (rows) met each predicted class (columns).

    >>> confusion(np.array([0, 1]), np.array([[0.9, 0.1], [0.6, 0.4]]))
    array([[1., 0.],
           [1., 0.]])
    """
    classes = proba.shape[1]
    cells = labels.astype(np.int64) * classes + proba.argmax(axis=1)
    counts = np.bincount(cells, minlength=classes**2).astype(np.float64)
    return counts.reshape(classes, classes)


def balanced_accuracy(counts: Counts) -> Scores:
    """Return the mean recall of the classes that have examples.

    >>> balanced_accuracy(np.array([[[3.0, 1.0], [0.0, 1.0]]]))
    array([0.875])
    """
    held = counts.sum(axis=2)
    recall = _ratio(_hits(counts), held, 0.0)
    return _ratio(recall.sum(axis=1), (held > 0).sum(axis=1), np.nan)


def worst_class_recall(counts: Counts) -> Scores:
    """Return the least recall of the classes that have examples.

    >>> worst_class_recall(np.array([[[3.0, 1.0], [0.0, 1.0]]]))
    array([0.75])
    """
    worst = _ratio(_hits(counts), counts.sum(axis=2), np.inf).min(axis=1)
    return np.asarray(np.where(np.isfinite(worst), worst, np.nan))


def macro_f1(counts: Counts) -> Scores:
    """Return the mean F1 of the classes that occur or are predicted.

    >>> macro_f1(np.array([[[2.0, 0.0], [0.0, 2.0]]]))
    array([1.])
    """
    either = counts.sum(axis=2) + counts.sum(axis=1)
    f1 = _ratio(2 * _hits(counts), either, 0.0)
    return _ratio(f1.sum(axis=1), (either > 0).sum(axis=1), np.nan)


def matthews_correlation(counts: Counts) -> Scores:
    """Return the multiclass correlation; 0 where labels or predictions are constant.

    Source:
        Gorodkin, Computational Biology and Chemistry 28, 2004, eq. 8.

    >>> matthews_correlation(np.array([[[2.0, 0.0], [0.0, 2.0]]]))
    array([1.])
    """
    held, given = counts.sum(axis=2), counts.sum(axis=1)
    total = held.sum(axis=1)
    covariance = _hits(counts).sum(axis=1) * total - (held * given).sum(axis=1)
    spread = (total**2 - (held**2).sum(axis=1)) * (total**2 - (given**2).sum(axis=1))
    is_spread = spread > 1e-12 * total**4  # below, it is rounding
    value = _ratio(covariance, np.where(is_spread, np.sqrt(np.abs(spread)), 0.0), 0.0)
    return np.asarray(np.where(total > 0, np.clip(value, -1.0, 1.0), np.nan))


def kappa(counts: Counts, *, power: int) -> Scores:
    """Return the agreement beyond chance; 0 where chance alone must agree.

    Args:
        counts: Confusion matrices.
        power: A miss costs its distance in class indices to this power; with 0
            every miss costs the same.

    Source:
        Cohen, Psychological Bulletin 70, 1968.

    >>> kappa(np.array([[[2.0, 0.0], [0.0, 2.0]]]), power=0)
    array([1.])
    """
    held, given = counts.sum(axis=2), counts.sum(axis=1)
    ranks = np.arange(counts.shape[2])
    distance = np.abs(ranks[:, None] - ranks).astype(np.float64)
    cost = distance**power if power else np.sign(distance)
    observed = (counts * cost).sum(axis=(1, 2)) * held.sum(axis=1)
    expected = ((held @ cost) * given).sum(axis=1)
    value = 1.0 - _ratio(observed, expected, 1.0)
    return np.asarray(np.where(held.sum(axis=1) > 0, value, np.nan))


def _hits(counts: Counts) -> Float64[np.ndarray, "cases classes"]:
    return np.asarray(np.diagonal(counts, axis1=1, axis2=2))


def _ratio(part: np.ndarray, whole: np.ndarray, empty: float) -> np.ndarray:
    """Divide, with a given value where the divisor is 0."""
    out = np.full(part.shape, empty)
    return np.asarray(np.divide(part, whole, out=out, where=whole > 0))
