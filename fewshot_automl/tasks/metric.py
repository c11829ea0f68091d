"""How predictions are scored: one `Metric` a row, of which every task kind has some.

A metric is computed in one of three ways, which decides how fast it can be resampled:
as a `Mean` over examples, from `Sums` over examples (of confusions, errors, hits), or
from `All` outputs at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, assert_never

import numpy as np
from jaxtyping import Float

from fewshot_automl.errors import DataError, ShapeError, UserError

Direction = Literal["maximize", "minimize"]
Needs = Literal["decisions", "outputs"]
Check = Callable[[np.ndarray, np.ndarray], None]


@dataclass(frozen=True, slots=True)
class Mean:
    """Is the mean of a value of each example."""

    values: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """Takes targets `[n, ...]` and outputs `[n, width]`, returns `[n]`."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Depends on the examples only through sums of what each of them adds."""

    parts: Callable[[np.ndarray, np.ndarray], Any]
    """Takes targets and outputs, returns `[n, k]`, dense or a SciPy sparse array."""
    value: Callable[[np.ndarray], np.ndarray]
    """Takes sums `[m, k]`, fractions allowed, returns `[m]`, NaN where undefined."""


@dataclass(frozen=True, slots=True)
class All:
    """Needs all outputs at once."""

    value: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    """Takes targets, outputs and how often each example counts in each draw
    `[draws, n]` (whole numbers), returns `[draws]`, NaN where undefined; see
    `one_by_one`."""


def one_by_one(function: Callable[[np.ndarray, np.ndarray], float]) -> All:
    """Return the measure that calls a plain metric once for every draw.

    Args:
        function: Takes targets and outputs of at least one example, returns a float
            or NaN.

    >>> measure = one_by_one(lambda targets, outputs: float(len(targets)))
    >>> measure.value(np.array([0]), np.array([[1.0]]), np.array([[1.0], [3.0]]))
    array([1., 3.])
    """

    def value(
        targets: np.ndarray, outputs: np.ndarray, weights: np.ndarray
    ) -> np.ndarray:
        rows = [np.repeat(np.arange(len(w)), w.astype(np.int64)) for w in weights]
        return np.array(
            [function(targets[r], outputs[r]) if r.size else np.nan for r in rows]
        )

    return All(value)


def check_lengths(targets: np.ndarray, outputs: np.ndarray) -> None:
    """Check that there is one row of outputs for each target, and at least one.

    Raises:
        ShapeError: If not.
    """
    if len(targets) != len(outputs) or len(targets) == 0:
        raise ShapeError(
            "Outputs must have one row for each target and at least one, got "
            f"{len(outputs)} rows and {len(targets)} targets."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """Says what is measured, how, and which way is better."""

    name: str
    """The word in the API, the CLI and the report."""
    description: str
    """One line for people who do not know the word."""
    direction: Direction
    """Which way is better."""
    needs: Needs
    """`decisions` if only what the outputs decide for counts, else `outputs`."""
    measure: Mean | Sums | All
    """How it is computed."""
    best: float
    """The value of perfect predictions."""
    worst: float
    """No value is worse; may be infinite."""
    check: Check = check_lengths
    """Raises `ShapeError` where targets and outputs cannot be compared."""

    def value(self, targets: np.ndarray, outputs: np.ndarray) -> float:
        """Return the value in its own direction; NaN where it is undefined."""
        match self.measure:
            case Mean(values):
                return float(values(targets, outputs).mean())
            case Sums(parts, value):
                sums = np.asarray(parts(targets, outputs).sum(axis=0))
                return float(value(sums[None])[0])
            case All(value):
                return float(value(targets, outputs, np.ones((1, len(targets))))[0])
        assert_never(self.measure)

    def score(
        self, targets: np.ndarray, outputs: Float[np.ndarray, "examples width"]
    ) -> float:
        """Return the oriented value: greater is better, whatever the metric.

        Raises:
            ShapeError: If targets and outputs do not fit each other.
            DataError: If it is undefined, as a ranking with one class only.

        >>> from fewshot_automl.tasks import metric_named
        >>> outputs = np.array([[0.9, 0.1], [0.6, 0.4]])
        >>> metric_named("accuracy").score(np.array([0, 1]), outputs)
        0.5
        """
        self.check(targets, outputs)
        value = self.orient(self.value(targets, outputs))
        if not np.isfinite(value):
            raise DataError(
                f"{self.name} must have targets that differ, got "
                f"{len(np.unique(targets))} value in {len(targets)} examples. "
                "Use another metric."
            )
        return value

    def orient(self, value: float) -> float:
        """Return a value such that greater is better; its own inverse.

        >>> from fewshot_automl.tasks import metric_named
        >>> metric_named("log_loss").orient(0.5), metric_named("accuracy").orient(0.5)
        (-0.5, 0.5)
        """
        return value if self.direction == "maximize" else 0.0 - value

    @property
    def limits(self) -> tuple[float, float]:
        """Return the least and the greatest possible oriented score."""
        return self.orient(self.worst), self.orient(self.best)


def metric_table(rows: Sequence[Metric]) -> dict[str, Metric]:
    """Return metrics by name.

    Raises:
        UserError: If two have one name.
    """
    names = [row.name for row in rows]
    if len(set(names)) != len(names):
        raise UserError(f"Names of metrics must be distinct, got {names}.")
    return dict(zip(names, rows, strict=True))
