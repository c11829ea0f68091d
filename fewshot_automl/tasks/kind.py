"""What a kind of target is, one row of `TASK_KINDS`, and how its outputs are scored.

A metric is computed in one of three ways, which decides how fast it can be resampled:
as a `Mean` over examples, from `Sums` over examples (of confusions, errors, hits), or
from `All` outputs at once.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, assert_never

import numpy as np
from jaxtyping import Bool, Float, Int

from fewshot_automl.cells import Column
from fewshot_automl.errors import DataError, ShapeError
from fewshot_automl.finding import Finding
from fewshot_automl.tasks.costs import Costs

Names = tuple[str, ...]
Targets = np.ndarray
"""One target an example along the first axis; the rest is the kind's own."""
Outputs = Float[np.ndarray, "examples width"]
"""What a model says of each example, `width` numbers that the kind understands."""


@dataclass(frozen=True, slots=True)
class Mean:
    """Is the mean of a value of each example."""

    values: Callable[[Targets, np.ndarray], np.ndarray]
    """Takes targets `[n, ...]` and outputs `[n, width]`, returns `[n]`."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Depends on the examples only through sums of what each of them adds."""

    parts: Callable[[Targets, np.ndarray], Any]
    """Takes targets and outputs, returns `[n, k]`, dense or a SciPy sparse array."""
    value: Callable[[np.ndarray], np.ndarray]
    """Takes sums `[m, k]`, fractions allowed, returns `[m]`, NaN where undefined."""


@dataclass(frozen=True, slots=True)
class All:
    """Needs all outputs at once."""

    value: Callable[[Targets, np.ndarray, np.ndarray], np.ndarray]
    """Takes targets, outputs and how often each example counts in each draw
    `[draws, n]` (whole numbers), returns `[draws]`, NaN where undefined."""


@dataclass(frozen=True, slots=True)
class Metric:
    """Says what is measured, how, and which way is better."""

    name: str
    """The word in the API, the CLI and the report."""
    description: str
    """One line for people who do not know the word."""
    measure: Mean | Sums | All
    """How it is computed."""
    needs: Literal["decisions", "outputs"] = "outputs"
    """`decisions` if only what the outputs decide for counts, else `outputs`."""
    best: float = 1.0
    """The value of perfect predictions."""
    worst: float = 0.0
    """No value is worse; may be infinite."""
    check: Callable[[Targets, np.ndarray], None] = lambda targets, outputs: None
    """Raises `ShapeError` where targets and as many outputs cannot be compared."""

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """Return which way is better."""
        return "maximize" if self.best > self.worst else "minimize"

    @property
    def limits(self) -> tuple[float, float]:
        """Return the least and the greatest possible oriented score."""
        return self.orient(self.worst), self.orient(self.best)

    def value(self, targets: Targets, outputs: np.ndarray) -> float:
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

    def score(self, targets: Targets, outputs: Outputs) -> float:
        """Return the oriented value: greater is better, whatever the metric.

        Raises:
            ShapeError: If targets and outputs do not fit each other.
            DataError: If it is undefined, as a ranking with one class only.
        """
        if len(targets) != len(outputs) or len(targets) == 0:
            raise ShapeError(
                "Outputs must have one row for each target and at least one, got "
                f"{len(outputs)} rows and {len(targets)} targets."
            )
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
        """Return a value such that greater is better; its own inverse."""
        return value if self.direction == "maximize" else 0.0 - value


@dataclass(frozen=True, slots=True)
class TaskKind(ABC):
    """Knows the targets of one task: how they are read, split, scored and said.

    numpy, scipy and scikit-learn only. What is not abstract may be left as it is.
    """

    names: Names
    """Of what is told apart, such as classes; empty where nothing has a name."""
    costs: Costs | None = None
    """What mistakes cost, where somebody said so."""

    name: ClassVar[str]
    """In the API, on the command line and in saved models."""
    metrics: ClassVar[Mapping[str, Metric]]
    """What its outputs can be scored by."""
    default_metric: ClassVar[str]
    """The one that is taken if nobody names one."""
    reported: ClassVar[tuple[str, ...]]
    """Metrics that are computed for every trial, whatever is searched for."""
    takes_costs: ClassVar[bool] = False
    """Whether mistakes can cost more or less."""

    def metric(self, name: str) -> Metric:
        """Return a metric, by these costs."""
        return self.metrics[name]

    def scores(
        self, targets: Targets, outputs: Outputs, names: Sequence[str]
    ) -> dict[str, float]:
        """Return metrics of what a model delivers, by name."""
        return {name: self.metric(name).value(targets, outputs) for name in names}

    @staticmethod
    @abstractmethod
    def claims(column: Column) -> bool:
        """Say whether a column, of which nobody said what it is, is of this kind."""

    @staticmethod
    @abstractmethod
    def read(
        column: Column, names: Sequence[str] | None, *, is_sure: bool
    ) -> tuple[Targets, Names]:
        """Return the targets in a column, and the names that they are places of.

        A missing cell is an example nobody labelled; `names` that are None are those
        found; `is_sure` if somebody said that the column is of this kind.
        """

    @property
    @abstractmethod
    def width(self) -> int:
        """Return how many numbers a model says of an example."""

    @abstractmethod
    def no_targets(self, examples: int) -> Targets:
        """Return the targets of examples that nobody has labelled."""

    @abstractmethod
    def is_labelled(self, targets: Targets) -> Bool[np.ndarray, " examples"]:
        """Return which examples somebody has labelled."""

    @abstractmethod
    def describe(self, targets: Targets) -> str:
        """Return one sentence about what was read."""

    @abstractmethod
    def say(self, target: Any) -> str:
        """Return one target as people read it."""

    def findings(self, targets: Targets, origins: Sequence[str]) -> list[Finding]:
        """Return what is odd about targets; unlabelled ones are among them."""
        return []

    def facts(self, targets: Targets) -> dict[str, Any]:
        """Return what a report says about labelled targets, as JSON."""
        return {}

    @abstractmethod
    def strata(self, targets: Targets) -> Int[np.ndarray, "examples strata"]:
        """Return which strata each labelled example is in: 1 or 0, one or several.

        Folds give every stratum its share; those that have names come first, in order.
        """

    @abstractmethod
    def no_information(self, targets: Targets) -> Float[np.ndarray, " width"]:
        """Return the one output that is best where nothing of the input is known."""

    @abstractmethod
    def decode(self, outputs: Outputs) -> list[Any]:
        """Return what each row of outputs decides for, as people read it."""

    def columns(self, outputs: Outputs) -> dict[str, list[Any]]:
        """Return what a table of predictions holds beside the decisions, by column."""
        return {}

    def fit_calibration(
        self, targets: Targets, outputs: Float[np.ndarray, "repeats examples width"]
    ) -> dict[str, float]:
        """Return what `calibrate` needs, fitted to out-of-fold outputs."""
        return {}

    @staticmethod
    def calibrate(
        outputs: Float[np.ndarray, "*rows width"], calibration: Mapping[str, float]
    ) -> Float[np.ndarray, "*rows width"]:
        """Return outputs that can be believed; an empty mapping changes nothing."""
        return outputs

    def log_likelihood(
        self, targets: Targets, outputs: Outputs
    ) -> Float[np.ndarray, " examples"]:
        """Return how probable calibrated outputs make each target, as a logarithm.

        By it members of a committee get their say. NaN: outputs are no probabilities,
        and the best by the metric is the model.
        """
        return np.full(len(outputs), np.nan)

    def measures(self, targets: Targets, outputs: Outputs) -> dict[str, float]:
        """Return what else every trial measures of its outputs, by measure."""
        return {}
