"""What a kind of target is: one row of `TASK_KINDS`, asked by everything above."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from fewshot_automl.cells import Column
from fewshot_automl.finding import Finding
from fewshot_automl.tasks.metric import Metric

Names = tuple[str, ...]
"""Names of what is told apart (classes), by place; empty where nothing has a name."""
Targets = np.ndarray
"""One target an example along the first axis; the rest is the kind's own."""
Outputs = Float[np.ndarray, "examples width"]
"""What a model says of each example, `width` numbers that the kind understands."""


@runtime_checkable
class TaskKind(Protocol):
    """Knows one kind of target: how it is read, split, scored and said.

    It holds nothing: the names and the metric of one task are in `Task`, which passes
    them on. numpy, scipy and scikit-learn only.
    """

    name: str
    """In the API, on the command line and in saved models."""
    metrics: Mapping[str, Metric]
    """What its outputs can be scored by."""
    default_metric: str
    """The one that is taken if nobody names one."""
    reported: tuple[str, ...]
    """Metrics that are computed for every trial, whatever is searched for."""

    def claims(self, column: Column) -> bool:
        """Say whether a column, of which nobody said what it is, is of this kind."""
        ...

    def read(
        self, column: Column, names: Sequence[str] | None, *, is_sure: bool
    ) -> tuple[Targets, Names]:
        """Return the targets in a column, and the names that they are places of.

        Args:
            column: Where they stand; a missing cell is an example nobody labelled.
            names: The names in order, if the caller knows them; None takes those
                that are found.
            is_sure: Whether somebody said that the column is of this kind.

        Raises:
            DataError: If a cell, or all of them, cannot be learnt from.
            TaskError: If the column looks like another kind that is not supported.
        """
        ...

    def check(self, names: Names) -> None:
        """Check that names can be those of a task.

        Raises:
            TaskError: If not.
        """
        ...

    def width(self, names: Names) -> int:
        """Return how many numbers a model says of an example."""
        ...

    def no_targets(self, examples: int) -> Targets:
        """Return the targets of examples that nobody has labelled."""
        ...

    def is_labelled(self, targets: Targets) -> Bool[np.ndarray, " examples"]:
        """Return which examples somebody has labelled."""
        ...

    def describe(self, targets: Targets, names: Names) -> str:
        """Return one sentence about what was read."""
        ...

    def say(self, target: Any, names: Names) -> str:
        """Return one target as people read it."""
        ...

    def findings(
        self, targets: Targets, names: Names, origins: Sequence[str]
    ) -> list[Finding]:
        """Return what is odd about targets; unlabelled ones are among them."""
        ...

    def facts(self, targets: Targets, names: Names) -> dict[str, Any]:
        """Return what a report says about labelled targets, as JSON."""
        ...

    def strata(self, targets: Targets, names: Names) -> Int[np.ndarray, "n strata"]:
        """Return which strata each labelled example is in (1 or 0, one or several).

        Folds give every stratum its share; a stratum that has a name comes in its
        place among the names.
        """
        ...

    def no_information(self, targets: Targets, names: Names) -> Float[np.ndarray, " w"]:
        """Return the one output that is best where nothing of the input is known."""
        ...

    def decode(self, outputs: Outputs, names: Names) -> list[Any]:
        """Return what each row of outputs decides for, as people read it."""
        ...

    def columns(self, outputs: Outputs, names: Names) -> dict[str, list[Any]]:
        """Return what a table of predictions holds beside the decisions, by column."""
        ...

    def fit_calibration(self, targets: Targets, outputs: Outputs) -> dict[str, float]:
        """Return what `calibrate` needs, fitted to out-of-fold outputs."""
        ...

    def calibrate(self, outputs: Outputs, calibration: Mapping[str, float]) -> Outputs:
        """Return outputs that can be believed; an empty mapping changes nothing."""
        ...

    def measures(self, targets: Targets, outputs: Outputs) -> dict[str, float]:
        """Return what else every trial measures of its outputs, by measure."""
        ...
