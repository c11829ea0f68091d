"""Scores of how well probabilities rank the examples of a class before the others."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Float64, Int


def roc_auc(
    labels: Int[np.ndarray, " examples"], proba: Float[np.ndarray, "examples classes"]
) -> float:
    """Return the area under the ROC curve, one class against the rest.

    Two classes: that of class 1. More: the plain mean over the classes that have
    both positive and negative examples. NaN if no class has.

    >>> roc_auc(np.array([0, 1]), np.array([[0.6, 0.4], [0.5, 0.5]]))
    1.0
    """
    return _mean_over_classes(labels, proba, _area)


def average_precision(
    labels: Int[np.ndarray, " examples"], proba: Float[np.ndarray, "examples classes"]
) -> float:
    """Return the average precision, one class against the rest.

    Two classes: that of class 1. More: the plain mean over the classes that have
    both positive and negative examples. NaN if no class has.

    >>> average_precision(np.array([1, 0]), np.array([[0.6, 0.4], [0.5, 0.5]]))
    0.5
    """
    return _mean_over_classes(labels, proba, _precision)


def _mean_over_classes(
    labels: Int[np.ndarray, " examples"],
    proba: Float[np.ndarray, "examples classes"],
    curve: Callable[[np.ndarray, np.ndarray], float],
) -> float:
    classes = [1] if proba.shape[1] == 2 else range(proba.shape[1])
    values = [
        curve(labels == index, proba[:, index].astype(np.float64))
        for index in classes
        if 0 < np.count_nonzero(labels == index) < len(labels)
    ]
    return float(np.mean(values)) if values else float("nan")


def _area(
    is_positive: Bool[np.ndarray, " examples"], score: Float64[np.ndarray, " examples"]
) -> float:
    """Return the share of pairs in the right order; a tie counts half."""
    below, held = _tied(is_positive, score)
    pairs = below.sum() * held.sum()
    negatives_before = np.concatenate([[0.0], np.cumsum(below)[:-1]])
    return float((held * (negatives_before + below / 2)).sum() / pairs)


def _precision(
    is_positive: Bool[np.ndarray, " examples"], score: Float64[np.ndarray, " examples"]
) -> float:
    """Return precision at each threshold, weighted by the recall it adds."""
    negatives, positives = (side[::-1] for side in _tied(is_positive, score))
    found = np.cumsum(positives)
    return float((positives * found / (found + np.cumsum(negatives))).sum() / found[-1])


def _tied(
    is_positive: Bool[np.ndarray, " examples"], score: Float64[np.ndarray, " examples"]
) -> tuple[Float64[np.ndarray, " values"], Float64[np.ndarray, " values"]]:
    """Return negatives and positives at each distinct score, rising."""
    values, place = np.unique(score, return_inverse=True)
    positives = np.bincount(place, weights=is_positive, minlength=len(values))
    negatives = np.bincount(place, weights=~is_positive, minlength=len(values))
    return negatives.astype(np.float64), positives.astype(np.float64)
