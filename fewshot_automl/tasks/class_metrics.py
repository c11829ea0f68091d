"""The metrics of classes: what each is, from class indices and probabilities.

All agree with scikit-learn's functions of the same meaning, which take one set of
predictions; these take many bootstrap draws at once. Classes without examples are left
out of means over classes. What is left undefined (a ranking with one class only) is
NaN inside, and an error in `Metric.score`.

Confusion matrices are `[cases, label, prediction]`; counts may be fractions.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np

from fewshot_automl.errors import ShapeError
from fewshot_automl.tasks.calibration import expected_calibration_error
from fewshot_automl.tasks.costs import NO_ANSWER, Costs
from fewshot_automl.tasks.kind import All, Mean, Metric, Sums


def check_probabilities(labels: np.ndarray, proba: np.ndarray) -> None:
    """Raise `ShapeError` unless every label has a column and every row sums to 1."""
    if labels.min() < 0 or labels.max() >= proba.shape[1]:
        raise ShapeError(
            f"Labels must be class indices in 0 .. {proba.shape[1] - 1}, got "
            f"{labels.min()} .. {labels.max()}. Leave unlabelled examples out."
        )
    sums = proba.sum(axis=1)
    if not (np.abs(sums - 1) < 1e-3).all() or proba.min() < 0:
        raise ShapeError(
            "Rows of probabilities must be 0 or greater and sum to 1, got sums from "
            f"{sums.min():g} to {sums.max():g} and a least value of {proba.min():g}."
        )


def _is_right(labels: np.ndarray, proba: np.ndarray) -> np.ndarray:
    return np.asarray(proba.argmax(axis=1) == labels, dtype=np.float64)


def _surprise(labels: np.ndarray, proba: np.ndarray) -> np.ndarray:
    picked = proba[np.arange(len(labels)), labels].astype(np.float64)
    return np.asarray(-np.log(np.clip(picked, np.finfo(np.float64).eps, 1.0)))


def _squared_error(labels: np.ndarray, proba: np.ndarray) -> np.ndarray:
    classes = proba.shape[1]
    error = proba.astype(np.float64) - np.eye(classes)[labels]
    return np.asarray((error**2).sum(axis=1) / (2 if classes == 2 else 1))


def _met(labels: np.ndarray, proba: np.ndarray) -> Any:
    """Return one row an example, with a 1 in the cell of its label and prediction."""
    from scipy.sparse import csr_array

    classes = proba.shape[1]
    cells = labels.astype(np.int64) * classes + proba.argmax(axis=1)
    rows = np.arange(len(labels))
    shape = (len(labels), classes**2)
    return csr_array((np.ones(len(labels)), (rows, cells)), shape=shape)


def _balanced_accuracy(counts: np.ndarray) -> np.ndarray:
    held = counts.sum(axis=2)
    recall = _ratio(_hits(counts), held, 0.0)
    return _ratio(recall.sum(axis=1), (held > 0).sum(axis=1), np.nan)


def _worst_class_recall(counts: np.ndarray) -> np.ndarray:
    worst = _ratio(_hits(counts), counts.sum(axis=2), np.inf).min(axis=1)
    return np.asarray(np.where(np.isfinite(worst), worst, np.nan))


def _macro_f1(counts: np.ndarray) -> np.ndarray:
    either = counts.sum(axis=2) + counts.sum(axis=1)
    f1 = _ratio(2 * _hits(counts), either, 0.0)
    return _ratio(f1.sum(axis=1), (either > 0).sum(axis=1), np.nan)


def _matthews(counts: np.ndarray) -> np.ndarray:
    """Return the multiclass correlation; 0 where labels or predictions are constant.

    Source:
        Gorodkin, Computational Biology and Chemistry 28, 2004, eq. 8.
    """
    held, given = counts.sum(axis=2), counts.sum(axis=1)
    total = held.sum(axis=1)
    covariance = _hits(counts).sum(axis=1) * total - (held * given).sum(axis=1)
    spread = (total**2 - (held**2).sum(axis=1)) * (total**2 - (given**2).sum(axis=1))
    is_spread = spread > 1e-12 * total**4  # below, it is rounding
    value = _ratio(covariance, np.where(is_spread, np.sqrt(np.abs(spread)), 0.0), 0.0)
    return np.asarray(np.where(total > 0, np.clip(value, -1.0, 1.0), np.nan))


def _kappa(counts: np.ndarray, *, power: int) -> np.ndarray:
    """Return the agreement beyond chance; 0 where chance alone must agree.

    A miss costs its distance in class indices to `power`; with 0 every miss costs the
    same.

    Source:
        Cohen, Psychological Bulletin 70, 1968.
    """
    held, given = counts.sum(axis=2), counts.sum(axis=1)
    ranks = np.arange(counts.shape[2])
    distance = np.abs(ranks[:, None] - ranks).astype(np.float64)
    cost = distance**power if power else np.sign(distance)
    observed = (counts * cost).sum(axis=(1, 2)) * held.sum(axis=1)
    expected = ((held @ cost) * given).sum(axis=1)
    value = 1.0 - _ratio(observed, expected, 1.0)
    return np.asarray(np.where(held.sum(axis=1) > 0, value, np.nan))


def _hits(counts: np.ndarray) -> np.ndarray:
    return np.asarray(np.diagonal(counts, axis1=1, axis2=2))


def _ratio(part: np.ndarray, whole: np.ndarray, empty: float) -> np.ndarray:
    """Divide, with a given value where the divisor is 0."""
    out = np.full(part.shape, empty)
    return np.asarray(np.divide(part, whole, out=out, where=whole > 0))


def _ranking(curve: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> All:
    """Return how well probabilities rank class 1 of two, or each class of more.

    `curve` takes the weights of negatives and of positives at each distinct
    probability, rising, `[draws, values]` each.
    """

    def value(labels: np.ndarray, proba: np.ndarray, weights: np.ndarray) -> np.ndarray:
        total, count = np.zeros(len(weights)), np.zeros(len(weights))
        for index in [1] if proba.shape[1] == 2 else range(proba.shape[1]):
            order = np.argsort(proba[:, index], kind="stable")
            _, starts = np.unique(proba[order, index], return_index=True)
            is_positive = (labels == index)[order]
            sides = (weights[:, order] * side for side in (~is_positive, is_positive))
            found = curve(*(np.add.reduceat(side, starts, axis=1) for side in sides))
            total += np.nan_to_num(found)
            count += np.isfinite(found)
        return _ratio(total, count, np.nan)

    return All(value)


def _area(negatives: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """Return the share of pairs in the right order; a tie counts half."""
    before = np.cumsum(negatives, axis=1) - negatives / 2
    pairs = negatives.sum(axis=1) * positives.sum(axis=1)
    return _ratio((positives * before).sum(axis=1), pairs, np.nan)


def _precision(negatives: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """Return precision at each threshold, weighted by the recall it adds."""
    found = np.cumsum(positives[:, ::-1], axis=1)
    taken = found + np.cumsum(negatives[:, ::-1], axis=1)
    gained = (positives[:, ::-1] * _ratio(found, taken, 0.0)).sum(axis=1)
    whole = np.where(negatives.sum(axis=1) > 0, positives.sum(axis=1), 0.0)
    return _ratio(gained, whole, np.nan)


def _calibration_errors(
    labels: np.ndarray, proba: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    def of_draw(count: np.ndarray) -> float:
        drawn = np.repeat(np.arange(len(labels)), count)
        if not drawn.size:
            return math.nan
        return expected_calibration_error(proba[drawn], labels[drawn])

    return np.array(list(map(of_draw, weights.astype(np.int64))))


def _counted(
    name: str,
    description: str,
    value: Callable[[np.ndarray], np.ndarray],
    worst: float = 0.0,
) -> Metric:
    """Return the row of a metric that is a function of confusion matrices."""

    def of_sums(sums: np.ndarray) -> np.ndarray:
        classes = math.isqrt(sums.shape[1])
        return value(sums.reshape(-1, classes, classes))

    return _row(name, description, Sums(_met, of_sums), "decisions", worst=worst)


_row = partial(Metric, check=check_probabilities)


def cost_metric(costs: Costs | None) -> Metric:
    """Return the mean cost of the cheapest answers, classes as frequent as in use.

    Without costs each mistake costs 1. Outputs of one column more, which stands for no
    answer, are decisions that were made before.
    """

    def parts(labels: np.ndarray, proba: np.ndarray) -> np.ndarray:
        if costs is None:
            return np.stack([1 - _is_right(labels, proba), np.ones(len(labels))], 1)
        if proba.shape[1] > len(costs.matrix):
            answers = proba.argmax(axis=1)
            answers[answers == len(costs.matrix)] = NO_ANSWER
        else:
            answers = costs.decide(costs.shifted(proba))
        paid = costs.of_decisions(labels, answers)
        weights = np.array(costs.ratios)[labels] if costs.ratios else np.ones(len(paid))
        if costs.no_answer is None:  # the mean is of what is answered
            weights = weights * (answers != NO_ANSWER)
        return np.stack([weights * paid, weights], axis=1)

    return _row(
        "cost",
        "Mean cost of an example, by answers of least expected cost.",
        Sums(parts, lambda sums: _ratio(sums[:, 0], sums[:, 1], np.nan)),
        best=0.0,
        worst=1.0 if costs is None else costs.most,
    )


_ROWS: Final = (
    _row("accuracy", "Share of right predictions.", Mean(_is_right), "decisions"),
    _counted(
        "balanced_accuracy",
        "Mean over the classes of the share found; all weigh the same.",
        _balanced_accuracy,
    ),
    _counted("macro_f1", "Mean over the classes of F1; all weigh the same.", _macro_f1),
    _counted(
        "worst_class_recall",
        "Share found of the class that is found least.",
        _worst_class_recall,
    ),
    _counted("mcc", "Matthews correlation of labels and predictions.", _matthews, -1.0),
    _counted(
        "cohen_kappa",
        "Agreement beyond what chance would give.",
        partial(_kappa, power=0),
        worst=-1.0,
    ),
    _counted(
        "quadratic_kappa",
        "Agreement beyond chance for ordered classes; far misses cost.",
        partial(_kappa, power=2),
        worst=-1.0,
    ),
    _row(
        "roc_auc",
        "Chance that a positive ranks before a negative; one vs rest.",
        _ranking(_area),
    ),
    _row(
        "average_precision",
        "Precision averaged over recall; one vs rest.",
        _ranking(_precision),
    ),
    _row(
        "log_loss",
        "Mean surprise at the truth in nats; punishes overconfidence.",
        Mean(_surprise),
        best=0.0,
        worst=math.inf,
    ),
    _row(
        "brier",
        "Mean squared error of the probabilities.",
        Mean(_squared_error),
        best=0.0,
        worst=2.0,
    ),
    cost_metric(None),
    _row(
        "ece",
        "Gap between confidence and accuracy over equal-mass bins.",
        All(_calibration_errors),
        best=0.0,
        worst=1.0,
    ),
)
CLASS_METRICS: Final[dict[str, Metric]] = {row.name: row for row in _ROWS}
