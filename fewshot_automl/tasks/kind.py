"""What a kind of target is: one row of `TASK_KINDS`, asked by everything above."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int

from fewshot_automl.cells import Column
from fewshot_automl.finding import Finding
from fewshot_automl.tasks.metric import Metric

Names = tuple[str, ...]
Targets = np.ndarray
"""One target an example along the first axis; the rest is the kind's own."""
Outputs = Float[np.ndarray, "examples width"]
"""What a model says of each example, `width` numbers that the kind understands."""


@dataclass(frozen=True, slots=True)
class TaskKind(ABC):
    """Knows the targets of one task: how they are read, split, scored and said.

    numpy, scipy and scikit-learn only. What is not abstract may be left as it is.
    """

    names: Names
    """Of what is told apart, such as classes; empty where nothing has a name."""

    name: ClassVar[str]
    """In the API, on the command line and in saved models."""
    metrics: ClassVar[Mapping[str, Metric]]
    """What its outputs can be scored by."""
    default_metric: ClassVar[str]
    """The one that is taken if nobody names one."""
    reported: ClassVar[tuple[str, ...]]
    """Metrics that are computed for every trial, whatever is searched for."""

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

        Args:
            column: Where they stand; a missing cell is an example nobody labelled.
            names: The names in order, if they are known; None takes those found.
            is_sure: Whether somebody said that the column is of this kind.

        Raises:
            DataError: If a cell, or all of them, cannot be learnt from.
            TaskError: If the column looks like another kind that is not supported.
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

        Folds give every stratum its share; strata that have names come first, in
        their order.
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

    def measures(self, targets: Targets, outputs: Outputs) -> dict[str, float]:
        """Return what else every trial measures of its outputs, by measure."""
        return {}
