"""What a target is: how it is read, split, scored, calibrated and said."""

from fewshot_automl.tasks.kind import All, Mean, Metric, Sums, TaskKind
from fewshot_automl.tasks.task import (
    TASK_KINDS,
    Task,
    kind_named,
    metric_named,
    metric_names,
)

__all__ = [
    "TASK_KINDS",
    "All",
    "Mean",
    "Metric",
    "Sums",
    "Task",
    "TaskKind",
    "kind_named",
    "metric_named",
    "metric_names",
]
