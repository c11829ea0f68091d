"""Scores of how well probabilities rank the examples of a class before the others.

Both take examples with weights and many draws of weights at a time, because a
bootstrap asks for the same ranking again and again.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

Weights = Float64[np.ndarray, "draws examples"]


def roc_auc(
    labels: Int[np.ndarray, " examples"],
    proba: Float[np.ndarray, "examples classes"],
    weights: Weights,
) -> Float64[np.ndarray, " draws"]:
    """Return the area under the ROC curve, one class against the rest.

    Two classes: that of class 1. More: the plain mean over the classes that have
    both positive and negative examples. NaN if no class has.

    Args:
        labels: Class indices.
        proba: Class probabilities.
        weights: How often each example counts, one row a draw.

    >>> proba = np.array([[0.6, 0.4], [0.5, 0.5]])
    >>> roc_auc(np.array([0, 1]), proba, np.ones((1, 2)))
    array([1.])
    """
    return _mean_over_classes(labels, proba, weights, _area)


def average_precision(
    labels: Int[np.ndarray, " examples"],
    proba: Float[np.ndarray, "examples classes"],
    weights: Weights,
) -> Float64[np.ndarray, " draws"]:
    """Return the average precision, one class against the rest.

    Two classes: that of class 1. More: the plain mean over the classes that have
    both positive and negative examples. NaN if no class has.

    Args:
        labels: Class indices.
        proba: Class probabilities.
        weights: How often each example counts, one row a draw.

    >>> proba = np.array([[0.6, 0.4], [0.5, 0.5]])
    >>> average_precision(np.array([1, 0]), proba, np.ones((1, 2)))
    array([0.5])
    """
    return _mean_over_classes(labels, proba, weights, _precision)


def _mean_over_classes(
    labels: Int[np.ndarray, " examples"],
    proba: Float[np.ndarray, "examples classes"],
    weights: Weights,
    curve: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Float64[np.ndarray, " draws"]:
    total, count = np.zeros(len(weights)), np.zeros(len(weights))
    for index in [1] if proba.shape[1] == 2 else range(proba.shape[1]):
        negatives, positives = _tied(labels == index, proba[:, index], weights)
        value = curve(negatives, positives)
        is_defined = np.isfinite(value)
        total += np.where(is_defined, value, 0.0)
        count += is_defined
    return _divide(total, count)


def _area(
    negatives: Float64[np.ndarray, "draws values"],
    positives: Float64[np.ndarray, "draws values"],
) -> Float64[np.ndarray, " draws"]:
    """Return the share of pairs in the right order; a tie counts half."""
    before = np.cumsum(negatives, axis=1) - negatives / 2
    pairs = negatives.sum(axis=1) * positives.sum(axis=1)
    return _divide((positives * before).sum(axis=1), pairs)


def _precision(
    negatives: Float64[np.ndarray, "draws values"],
    positives: Float64[np.ndarray, "draws values"],
) -> Float64[np.ndarray, " draws"]:
    """Return precision at each threshold, weighted by the recall it adds."""
    found = np.cumsum(positives[:, ::-1], axis=1)
    taken = found + np.cumsum(negatives[:, ::-1], axis=1)
    precision = _divide(found, taken)
    gained = np.where(taken > 0, positives[:, ::-1] * precision, 0.0).sum(axis=1)
    whole = np.where(negatives.sum(axis=1) > 0, positives.sum(axis=1), 0.0)
    return _divide(gained, whole)


def _tied(
    is_positive: Bool[np.ndarray, " examples"],
    score: Float[np.ndarray, " examples"],
    weights: Weights,
) -> tuple[Float64[np.ndarray, "draws values"], Float64[np.ndarray, "draws values"]]:
    """Return weights of negatives and positives at each distinct score, rising."""
    order = np.argsort(score, kind="stable")
    _, starts = np.unique(score[order], return_index=True)
    sides = (weights[:, order] * side[order] for side in (~is_positive, is_positive))
    negatives, positives = (np.add.reduceat(side, starts, axis=1) for side in sides)
    return negatives, positives


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide, with NaN where the divisor is 0."""
    out = np.full(part.shape, np.nan)
    return np.asarray(np.divide(part, whole, out=out, where=whole > 0))
