"""What a target is: how it is read, split, scored, calibrated and said."""

from fewshot_automl.tasks.kind import TaskKind
from fewshot_automl.tasks.metric import All, Mean, Metric, Sums, one_by_one
from fewshot_automl.tasks.table import (
    TASK_KINDS,
    kind_named,
    metric_named,
    metric_names,
    register_kind,
)
from fewshot_automl.tasks.task import Task

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
    "one_by_one",
    "register_kind",
]
