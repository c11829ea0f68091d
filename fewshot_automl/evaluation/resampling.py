"""Scores of many models under many reweightings of the same examples.

A bootstrap draws the same examples again and again, so each model is looked at once
and each draw is a product of matrices. This is what intervals, the correction for
selection and the comparison of models are built on.

Predictions of one model are `[examples, classes]`, or `[repeats, examples, classes]`
where a cross-validation was repeated. A row of NaN is an example the model has not
predicted (in that repeat). A model's score is that of its mean behaviour over the
repeats: the mean value, the mean confusion matrix, or the mean of the repeats' scores.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from fewshot_automl.errors import ShapeError
from fewshot_automl.tasks import (
    All,
    Mean,
    Metric,
    Sums,
    metric_named,
)

Weights = Float64[np.ndarray, "draws examples"]
Stacks = Sequence[Float[np.ndarray, "... rows classes"]]
Scorer = Callable[[np.ndarray], np.ndarray]

_CELLS_AT_ONCE: Final = 4_000_000
"""Numbers held at once for confusion matrices (32 MB)."""
_CURVES: Final = 10_000
"""Curves drawn at most by default: about 3 seconds on 500 examples."""


def pooled_score(
    metric: str | Metric,
    labels: Int[np.ndarray, " examples"],
    proba: Float[np.ndarray, "... rows classes"],
) -> float:
    """Return the oriented score of out-of-fold predictions, all folds pooled.

    Examples that were not predicted (NaN) are left out.

    Args:
        metric: Name of an objective, or an objective.
        labels: Class indices.
        proba: `[examples, classes]` or `[repeats, examples, classes]`.

    Raises:
        ShapeError: If labels and predictions do not fit, or nothing was predicted.

    >>> proba = np.array([[[0.9, 0.1], [0.4, 0.6]], [[0.8, 0.2], [0.6, 0.4]]])
    >>> pooled_score("accuracy", np.array([0, 1]), proba)
    0.75
    """
    return float(scorer(metric, labels, [proba])(np.ones((1, len(labels))))[0, 0])


def scorer(
    metric: str | Metric,
    labels: Int[np.ndarray, " examples"],
    probas: Stacks,
) -> Scorer:
    """Return a function from weights to the oriented scores of every model.

    The function takes `[draws, examples]`, how often each example counts in each
    draw, and returns `[draws, models]`; NaN where a score is undefined there.

    Args:
        metric: Name of an objective, or an objective.
        labels: Class indices.
        probas: Stacks of each model; the number of repeats may differ.

    Raises:
        ShapeError: If labels and predictions do not fit, or a model predicted
            nothing.
    """
    wanted = metric_named(metric)
    stacks = [_checked(wanted, labels, proba) for proba in probas]
    match wanted.measure:
        case Mean(values):
            raw = _mean_scorer(labels, stacks, values)
        case Sums(parts, value):
            raw = _sums_scorer(labels, stacks, parts, value)
        case All(value):
            raw = _whole_scorer(labels, stacks, value)
    sign = wanted.orient(1.0)
    return lambda weights: sign * raw(np.asarray(weights, dtype=np.float64))


def bootstrap_weights(
    examples: int, draws: int, rng: np.random.Generator
) -> Float64[np.ndarray, "draws examples"]:
    """Return how often each example was drawn, with replacement, in each draw.

    >>> bootstrap_weights(5, 2, np.random.default_rng(0)).sum(axis=1)
    array([5., 5.])
    """
    chances = np.full(examples, 1.0 / examples)
    return rng.multinomial(examples, chances, size=draws).astype(np.float64)


def default_draws(metric: str | Metric, probas: Stacks) -> int:
    """Return how many bootstrap draws an objective's cost allows.

    1000 for means over examples and 400 from confusion matrices. For the rest as many
    as make about 10,000 curves over models and classes, from 40 to 200.

    >>> [default_draws(name, [np.eye(2)]) for name in ("accuracy", "mcc", "roc_auc")]
    [1000, 400, 200]
    """
    match metric_named(metric).measure:
        case Mean():
            return 1000
        case Sums():
            return 400
        case All():
            classes = probas[0].shape[-1]
            curves = len(probas) * (1 if classes == 2 else classes)
            return min(max(_CURVES // curves, 40), 200)


def is_predicted(
    proba: Float[np.ndarray, "repeats examples classes"],
) -> Bool[np.ndarray, "repeats examples"]:
    """Return which examples have a prediction in which repeat."""
    return np.asarray(~np.isnan(proba).any(axis=2))


def as_repeats(
    proba: Float[np.ndarray, "... examples classes"],
) -> Float[np.ndarray, "repeats examples classes"]:
    """Return predictions with an axis of repeats, if need be of length 1.

    Raises:
        ShapeError: If there are fewer than 2 or more than 3 axes.
    """
    if proba.ndim not in (2, 3):
        raise ShapeError(
            "Predictions must be [examples, classes] or [repeats, examples, classes], "
            f"got shape {proba.shape}."
        )
    return proba if proba.ndim == 3 else proba[None]


def _checked(
    wanted: Metric,
    labels: Int[np.ndarray, " examples"],
    proba: Float[np.ndarray, "... rows classes"],
) -> Float[np.ndarray, "repeats rows classes"]:
    stack = as_repeats(proba)
    if stack.shape[1] != len(labels):
        raise ShapeError(
            f"Predictions must have one row for each of the {len(labels)} labels, "
            f"got {stack.shape[1]} rows. Leave unlabelled examples out."
        )
    there = is_predicted(stack)
    if not there.any():
        raise ShapeError("Predictions must hold at least one prediction, got NaN only.")
    wanted.check(labels[np.nonzero(there)[1]], stack[there])
    return stack


def _mean_scorer(
    labels: Int[np.ndarray, " examples"],
    stacks: Sequence[np.ndarray],
    values: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Scorer:
    table = np.array([example_values(labels, stack, values) for stack in stacks])
    there = ~np.isnan(table)
    filled = np.where(there, table, 0.0)

    def score(weights: np.ndarray) -> np.ndarray:
        return _divide(weights @ filled.T, weights @ there.T.astype(np.float64))

    return score


def example_values(
    labels: Int[np.ndarray, " examples"],
    stack: Float[np.ndarray, "repeats examples classes"],
    values: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Float64[np.ndarray, " examples"]:
    """Return each example's value, averaged over the repeats that predicted it."""
    there = is_predicted(stack)
    total = np.zeros(len(labels))
    for row, proba in zip(there, stack, strict=True):
        total[row] += values(labels[row], proba[row])
    return _divide(total, there.sum(axis=0).astype(np.float64))


def _sums_scorer(
    targets: np.ndarray,
    stacks: Sequence[np.ndarray],
    parts: Callable[[np.ndarray, np.ndarray], Any],
    value: Callable[[np.ndarray], np.ndarray],
) -> Scorer:
    from scipy.sparse import csr_array

    tables = []
    for stack in stacks:
        there = is_predicted(stack)
        _, examples = np.nonzero(there)
        shares = (1.0 / np.maximum(there.sum(axis=0), 1))[examples]
        # Each example's mean over the repeats that predicted it.
        spread = csr_array(
            (shares, (examples, np.arange(len(examples)))),
            shape=(len(targets), len(examples)),
        )
        table = spread @ csr_array(parts(targets[examples], stack[there]))
        tables.append(table.T.tocsr())
    step = max(_CELLS_AT_ONCE // tables[0].shape[0], 1)

    def score(weights: np.ndarray) -> np.ndarray:
        out = np.empty((len(weights), len(tables)))
        for start in range(0, len(weights), step):
            rows = weights[start : start + step]
            for column, table in enumerate(tables):
                sums = np.ascontiguousarray((table @ rows.T).T)
                out[start : start + step, column] = value(sums)
        return out

    return score


def _whole_scorer(
    labels: Int[np.ndarray, " examples"],
    stacks: Sequence[np.ndarray],
    value: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
) -> Scorer:
    def of_model(stack: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Average over repeats, each weighing as much as it has predictions."""
        total, held = np.zeros(len(weights)), np.zeros(len(weights))
        for row, proba in zip(is_predicted(stack), stack, strict=True):
            if row.any():
                scores = value(labels[row], proba[row], weights[:, row])
                size = np.where(np.isfinite(scores), weights[:, row].sum(axis=1), 0.0)
                total += size * np.where(size > 0, scores, 0.0)
                held += size
        return _divide(total, held)

    return lambda weights: np.stack([of_model(s, weights) for s in stacks], axis=1)


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide, with NaN where the divisor is 0."""
    out = np.full(part.shape, np.nan)
    return np.asarray(np.divide(part, whole, out=out, where=whole > 0))
