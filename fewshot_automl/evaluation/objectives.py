"""What can be maximised or reported: one row of `OBJECTIVES` an objective.

An objective is measured in one of three ways, which decides how fast it can be
resampled: as a `Mean` over examples, from the `Confusion` matrix, or from `All`
probabilities at once. All agree with scikit-learn's functions of the same meaning.

Classes without examples: recalls (and what is built of them) are means over the
classes that have examples; F1 leaves out classes that neither occur nor are
predicted; rankings leave out classes without a positive or a negative. What is left
undefined (a ranking with one class only) is NaN inside, and an error in `score`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, assert_never

import numpy as np
from jaxtyping import Float, Int

from fewshot_automl.errors import DataError, ShapeError, UserError, unknown_name
from fewshot_automl.evaluation.calibration import expected_calibration_error
from fewshot_automl.evaluation.confusion import (
    balanced_accuracy,
    confusion,
    kappa,
    macro_f1,
    matthews_correlation,
    worst_class_recall,
)
from fewshot_automl.evaluation.ranking import average_precision, roc_auc

Direction = Literal["maximize", "minimize"]
Needs = Literal["proba", "labels"]
Kind = Literal["classification"]


@dataclass(frozen=True, slots=True)
class Mean:
    """Is the mean of a value of each example."""

    values: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """Takes labels `[n]` and probabilities `[n, classes]`, returns `[n]`."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """Depends on labels and predictions only through how often they meet."""

    value: Callable[[np.ndarray], np.ndarray]
    """Takes counts `[m, label, prediction]`, fractions allowed, returns `[m]`."""


@dataclass(frozen=True, slots=True)
class All:
    """Needs all probabilities at once."""

    value: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    """Takes labels `[n]`, probabilities `[n, classes]` and how often each example
    counts in each draw `[draws, n]` (whole numbers), returns `[draws]`, NaN where
    undefined; see `one_by_one`."""


def one_by_one(function: Callable[[np.ndarray, np.ndarray], float]) -> All:
    """Return the measure that calls a plain metric once for every draw.

    Args:
        function: Takes labels `[n]` and probabilities `[n, classes]` with at least
            one example, returns a float or NaN.

    >>> measure = one_by_one(lambda labels, proba: float(len(labels)))
    >>> measure.value(np.array([0]), np.array([[1.0]]), np.array([[1.0], [3.0]]))
    array([1., 3.])
    """

    def value(labels: np.ndarray, proba: np.ndarray, weights: np.ndarray) -> np.ndarray:
        rows = [np.repeat(np.arange(len(w)), w.astype(np.int64)) for w in weights]
        return np.array(
            [function(labels[r], proba[r]) if r.size else np.nan for r in rows]
        )

    return All(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """Says what is measured, how, and which way is better."""

    name: str
    """The word in the API, the CLI and the report."""
    description: str
    """One line for people who do not know the word."""
    direction: Direction
    """Which way is better."""
    needs: Needs
    """`labels` if only the most probable class counts, else `proba`."""
    measure: Mean | Confusion | All
    """How it is computed."""
    best: float
    """The value of perfect predictions."""
    worst: float
    """No value is worse; may be infinite."""
    kind: Kind = "classification"
    """The family of targets it fits."""

    def function(
        self,
        labels: Int[np.ndarray, " examples"],
        proba: Float[np.ndarray, "examples classes"],
    ) -> float:
        """Return the value in its own direction; NaN where it is undefined."""
        match self.measure:
            case Mean(values):
                return float(values(labels, proba).mean())
            case Confusion(value):
                return float(value(confusion(labels, proba)[None])[0])
            case All(value):
                return float(value(labels, proba, np.ones((1, len(labels))))[0])
        assert_never(self.measure)

    def orient(self, value: float) -> float:
        """Return a value such that greater is better; its own inverse.

        >>> objective("log_loss").orient(0.5), objective("accuracy").orient(0.5)
        (-0.5, 0.5)
        """
        return value if self.direction == "maximize" else 0.0 - value

    @property
    def limits(self) -> tuple[float, float]:
        """Return the least and the greatest possible oriented score."""
        return self.orient(self.worst), self.orient(self.best)


def objective(name: str | Objective) -> Objective:
    """Return the objective of that name; an object passes as it is.

    Raises:
        UnknownNameError: If no objective has that name.
    """
    if isinstance(name, Objective):
        return name
    if name not in OBJECTIVES:
        raise unknown_name("metric", name, OBJECTIVES, "fewshot fit --help")
    return OBJECTIVES[name]


def score(
    name: str | Objective,
    labels: Int[np.ndarray, " examples"],
    proba: Float[np.ndarray, "rows classes"],
) -> float:
    """Return the oriented score: greater is better, whatever the objective.

    Args:
        name: A name of `OBJECTIVES`, or an objective of your own.
        labels: Class indices in `0 .. classes - 1`.
        proba: Class probabilities; each row sums to 1.

    Raises:
        UnknownNameError: If no objective has that name.
        ShapeError: If labels and probabilities do not fit each other.
        DataError: If the objective is undefined, as a ranking with one class only.

    >>> score("accuracy", np.array([0, 1]), np.array([[0.9, 0.1], [0.6, 0.4]]))
    0.5
    """
    wanted = objective(name)
    check_predictions(labels, proba)
    value = wanted.orient(wanted.function(labels, proba))
    if not np.isfinite(value):
        raise DataError(
            f"{wanted.name} must have examples of at least 2 classes, got "
            f"{len(np.unique(labels))} in {len(labels)} examples. Use another metric."
        )
    return value


def check_predictions(
    labels: Int[np.ndarray, " examples"], proba: Float[np.ndarray, "rows classes"]
) -> None:
    """Check that labels and probabilities can be compared.

    Raises:
        ShapeError: If lengths differ, a label has no column, or a row is no
            distribution.
    """
    if len(labels) != len(proba) or len(labels) == 0:
        raise ShapeError(
            "proba must have one row for each label and at least one, got "
            f"{len(proba)} rows and {len(labels)} labels."
        )
    if labels.min() < 0 or labels.max() >= proba.shape[1]:
        raise ShapeError(
            f"Labels must be class indices in 0 .. {proba.shape[1] - 1}, got "
            f"{labels.min()} .. {labels.max()}. Leave unlabelled examples out."
        )
    sums = proba.sum(axis=1)
    if not (np.abs(sums - 1) < 1e-3).all() or proba.min() < 0:
        raise ShapeError(
            "Rows of proba must be 0 or greater and sum to 1, got sums from "
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


def _table(rows: Sequence[Objective]) -> dict[str, Objective]:
    names = [row.name for row in rows]
    if len(set(names)) != len(names):
        raise UserError(f"Names of objectives must be distinct, got {names}.")
    return dict(zip(names, rows, strict=True))


OBJECTIVES: Final[dict[str, Objective]] = _table(
    [
        Objective(
            name="accuracy",
            description="Share of right predictions.",
            direction="maximize",
            needs="labels",
            measure=Mean(_is_right),
            best=1.0,
            worst=0.0,
        ),
        Objective(
            name="balanced_accuracy",
            description="Mean over the classes of the share found; all weigh the same.",
            direction="maximize",
            needs="labels",
            measure=Confusion(balanced_accuracy),
            best=1.0,
            worst=0.0,
        ),
        Objective(
            name="macro_f1",
            description="Mean over the classes of F1; all weigh the same.",
            direction="maximize",
            needs="labels",
            measure=Confusion(macro_f1),
            best=1.0,
            worst=0.0,
        ),
        Objective(
            name="worst_class_recall",
            description="Share found of the class that is found least.",
            direction="maximize",
            needs="labels",
            measure=Confusion(worst_class_recall),
            best=1.0,
            worst=0.0,
        ),
        Objective(
            name="mcc",
            description="Matthews correlation of labels and predictions.",
            direction="maximize",
            needs="labels",
            measure=Confusion(matthews_correlation),
            best=1.0,
            worst=-1.0,
        ),
        Objective(
            name="cohen_kappa",
            description="Agreement beyond what chance would give.",
            direction="maximize",
            needs="labels",
            measure=Confusion(lambda counts: kappa(counts, power=0)),
            best=1.0,
            worst=-1.0,
        ),
        Objective(
            name="quadratic_kappa",
            description="Agreement beyond chance for ordered classes; far misses cost.",
            direction="maximize",
            needs="labels",
            measure=Confusion(lambda counts: kappa(counts, power=2)),
            best=1.0,
            worst=-1.0,
        ),
        Objective(
            name="roc_auc",
            description="Chance that a positive ranks before a negative; one vs rest.",
            direction="maximize",
            needs="proba",
            measure=All(roc_auc),
            best=1.0,
            worst=0.0,
        ),
        Objective(
            name="average_precision",
            description="Precision averaged over recall; one vs rest.",
            direction="maximize",
            needs="proba",
            measure=All(average_precision),
            best=1.0,
            worst=0.0,
        ),
        Objective(
            name="log_loss",
            description="Mean surprise at the truth in nats; punishes overconfidence.",
            direction="minimize",
            needs="proba",
            measure=Mean(_surprise),
            best=0.0,
            worst=float("inf"),
        ),
        Objective(
            name="brier",
            description="Mean squared error of the probabilities.",
            direction="minimize",
            needs="proba",
            measure=Mean(_squared_error),
            best=0.0,
            worst=2.0,
        ),
        Objective(
            name="ece",
            description="Gap between confidence and accuracy over equal-mass bins.",
            direction="minimize",
            needs="proba",
            measure=one_by_one(
                lambda labels, proba: expected_calibration_error(proba, labels)
            ),
            best=0.0,
            worst=1.0,
        ),
    ]
)
