"""Scores of many models under many reweightings of the same examples.

A bootstrap draws the same examples again and again, so each model is looked at once
and each draw is a product of matrices. Intervals, the correction for selection and the
comparison of models are built on this.

Outputs of one model are `[examples, width]`, or `[repeats, examples, width]` where a
cross-validation was repeated. A row of NaN is an example the model has not predicted
(in that repeat). A model's score is that of its mean behaviour over the repeats: the
mean value, the mean sums, or the mean of the repeats' scores.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float, Float64

from fewshot_automl.errors import ShapeError
from fewshot_automl.tasks import All, Mean, Metric, Sums

Weights = Float64[np.ndarray, "draws examples"]
Stack = Float[np.ndarray, "repeats examples width"]
AnyStack = Float[np.ndarray, "... rows width"]
Stacks = Sequence[AnyStack]
Scorer = Callable[[np.ndarray], np.ndarray]

_NUMBERS_AT_ONCE: Final = 4_000_000
"""Sums held at once (32 MB)."""
_CURVES: Final = 10_000
"""Curves drawn at most by default: about 3 seconds on 500 examples."""


def pooled_score(metric: Metric, targets: np.ndarray, outputs: AnyStack) -> float:
    """Return the oriented score of out-of-fold outputs, all folds pooled."""
    return float(scorer(metric, targets, [outputs])(np.ones((1, len(targets))))[0, 0])


def scorer(metric: Metric, targets: np.ndarray, outputs: Stacks) -> Scorer:
    """Return a function from weights to the oriented scores of every model.

    The function takes `[draws, examples]`, how often each example counts in each
    draw, and returns `[draws, models]`; NaN where a score is undefined there.

    Raises:
        ShapeError: If targets and outputs do not fit, or a model predicted nothing.
    """
    stacks = [_checked(metric, targets, stack) for stack in outputs]
    match metric.measure:
        case Mean(values):
            raw = _mean_scorer(targets, stacks, values)
        case Sums(parts, value):
            raw = _sums_scorer(targets, stacks, parts, value)
        case All(value):
            raw = _whole_scorer(targets, stacks, value)
    sign = metric.orient(1.0)
    return lambda weights: sign * raw(np.asarray(weights, dtype=np.float64))


def bootstrap_weights(examples: int, draws: int, rng: np.random.Generator) -> Weights:
    """Return how often each example was drawn, with replacement, in each draw."""
    chances = np.full(examples, 1.0 / examples)
    return rng.multinomial(examples, chances, size=draws).astype(np.float64)


def default_draws(metric: Metric, outputs: Stacks) -> int:
    """Return how many bootstrap draws a metric's cost allows.

    1000 for means over examples and 400 from sums. For the rest as many as make about
    10,000 curves over models and columns, from 40 to 200.
    """
    if not isinstance(metric.measure, All):
        return 1000 if isinstance(metric.measure, Mean) else 400
    width = outputs[0].shape[-1]
    curves = len(outputs) * (1 if width == 2 else width)
    return min(max(_CURVES // curves, 40), 200)


def is_predicted(outputs: Stack) -> Bool[np.ndarray, "repeats examples"]:
    """Return which examples have a prediction in which repeat."""
    return np.asarray(~np.isnan(outputs).any(axis=2))


def predicted_rows(
    targets: np.ndarray, outputs: Stack
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return, for each repeat with a prediction, targets and outputs of those rows."""
    there = zip(is_predicted(outputs), outputs, strict=True)
    return [(targets[rows], x[rows]) for rows, x in there if rows.any()]


def as_repeats(outputs: AnyStack) -> Stack:
    """Return outputs with an axis of repeats, if need be of length 1."""
    return outputs if outputs.ndim == 3 else outputs[None]


def example_values(
    targets: np.ndarray,
    stack: Stack,
    values: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Float64[np.ndarray, " examples"]:
    """Return each example's value, averaged over the repeats that predicted it."""
    there = is_predicted(stack)
    total = np.zeros(len(targets))
    for row, outputs in zip(there, stack, strict=True):
        total[row] += values(targets[row], outputs[row])
    return _divide(total, there.sum(axis=0).astype(np.float64))


def _checked(metric: Metric, targets: np.ndarray, outputs: AnyStack) -> Stack:
    stack = as_repeats(outputs)
    if stack.shape[1] != len(targets):
        raise ShapeError(
            f"Outputs must have one row for each of the {len(targets)} targets, got "
            f"{stack.shape[1]} rows. Leave unlabelled examples out."
        )
    there = is_predicted(stack)
    if not there.any():
        raise ShapeError("Outputs must hold at least one prediction, got NaN only.")
    metric.check(targets[np.nonzero(there)[1]], stack[there])
    return stack


def _mean_scorer(
    targets: np.ndarray,
    stacks: Sequence[np.ndarray],
    values: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Scorer:
    table = np.array([example_values(targets, stack, values) for stack in stacks])
    there = ~np.isnan(table)
    filled = np.where(there, table, 0.0)

    def score(weights: np.ndarray) -> np.ndarray:
        return _divide(weights @ filled.T, weights @ there.T.astype(np.float64))

    return score


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
        # Sums each example's parts over the repeats that predicted it, each by its
        # share, so that an example counts once however often it was predicted.
        shares = (1.0 / np.maximum(there.sum(axis=0), 1))[examples]
        mean = csr_array(
            (shares, (examples, np.arange(len(examples)))),
            shape=(len(targets), len(examples)),
        )
        tables.append((mean @ csr_array(parts(targets[examples], stack[there]))).T)
    step = max(_NUMBERS_AT_ONCE // tables[0].shape[0], 1)

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
    targets: np.ndarray,
    stacks: Sequence[np.ndarray],
    value: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
) -> Scorer:
    def of_model(stack: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Average over repeats, each weighing as much as it has predictions."""
        total, held = np.zeros(len(weights)), np.zeros(len(weights))
        for row, outputs in zip(is_predicted(stack), stack, strict=True):
            if row.any():
                scores = value(targets[row], outputs[row], weights[:, row])
                size = np.where(np.isfinite(scores), weights[:, row].sum(axis=1), 0.0)
                total += size * np.where(size > 0, scores, 0.0)
                held += size
        return _divide(total, held)

    return lambda weights: np.stack([of_model(s, weights) for s in stacks], axis=1)


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide, with NaN where the divisor is 0."""
    out = np.full(part.shape, np.nan)
    return np.asarray(np.divide(part, whole, out=out, where=whole > 0))
