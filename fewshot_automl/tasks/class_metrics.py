"""The metrics of classes: what each is, from probabilities and class indices.

All agree with scikit-learn's functions of the same meaning. Classes without examples:
recalls (and what is built of them) are means over the classes that have examples; F1
leaves out classes that neither occur nor are predicted; rankings leave out classes
without a positive or a negative. What is left undefined (a ranking with one class
only) is NaN inside, and an error in `Metric.score`.
"""

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from fewshot_automl.errors import ShapeError
from fewshot_automl.tasks.calibration import expected_calibration_error
from fewshot_automl.tasks.confusion import (
    balanced_accuracy,
    kappa,
    macro_f1,
    matthews_correlation,
    worst_class_recall,
)
from fewshot_automl.tasks.metric import (
    All,
    Mean,
    Metric,
    Needs,
    Sums,
    check_lengths,
    metric_table,
    one_by_one,
)
from fewshot_automl.tasks.ranking import average_precision, roc_auc


def check_probabilities(labels: np.ndarray, proba: np.ndarray) -> None:
    """Check that class indices and probabilities can be compared.

    Raises:
        ShapeError: If lengths differ, a label has no column, or a row is no
            distribution.
    """
    check_lengths(labels, proba)
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
    """Return the squared distance to the truth; half of it for two classes."""
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


def _from_confusion(value: Callable[[np.ndarray], np.ndarray]) -> Sums:
    """Return a measure that takes counts `[m, label, prediction]`."""

    def of_sums(sums: np.ndarray) -> np.ndarray:
        classes = math.isqrt(sums.shape[1])
        return value(np.ascontiguousarray(sums).reshape(-1, classes, classes))

    return Sums(_met, of_sums)


def _row(
    name: str,
    description: str,
    measure: Mean | Sums | All,
    *,
    needs: Needs = "outputs",
    best: float = 1.0,
    worst: float = 0.0,
) -> Metric:
    """Return a row; it is better the nearer it is to `best`."""
    return Metric(
        name=name,
        description=description,
        direction="maximize" if best > worst else "minimize",
        needs=needs,
        measure=measure,
        best=best,
        worst=worst,
        check=check_probabilities,
    )


CLASS_METRICS: Final[dict[str, Metric]] = metric_table(
    [
        _row(
            "accuracy",
            "Share of right predictions.",
            Mean(_is_right),
            needs="decisions",
        ),
        _row(
            "balanced_accuracy",
            "Mean over the classes of the share found; all weigh the same.",
            _from_confusion(balanced_accuracy),
            needs="decisions",
        ),
        _row(
            "macro_f1",
            "Mean over the classes of F1; all weigh the same.",
            _from_confusion(macro_f1),
            needs="decisions",
        ),
        _row(
            "worst_class_recall",
            "Share found of the class that is found least.",
            _from_confusion(worst_class_recall),
            needs="decisions",
        ),
        _row(
            "mcc",
            "Matthews correlation of labels and predictions.",
            _from_confusion(matthews_correlation),
            needs="decisions",
            worst=-1.0,
        ),
        _row(
            "cohen_kappa",
            "Agreement beyond what chance would give.",
            _from_confusion(lambda counts: kappa(counts, power=0)),
            needs="decisions",
            worst=-1.0,
        ),
        _row(
            "quadratic_kappa",
            "Agreement beyond chance for ordered classes; far misses cost.",
            _from_confusion(lambda counts: kappa(counts, power=2)),
            needs="decisions",
            worst=-1.0,
        ),
        _row(
            "roc_auc",
            "Chance that a positive ranks before a negative; one vs rest.",
            All(roc_auc),
        ),
        _row(
            "average_precision",
            "Precision averaged over recall; one vs rest.",
            All(average_precision),
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
        _row(
            "ece",
            "Gap between confidence and accuracy over equal-mass bins.",
            one_by_one(lambda labels, proba: expected_calibration_error(proba, labels)),
            best=0.0,
            worst=1.0,
        ),
    ]
)
