"""Every kind of target there is; one row each."""

from collections.abc import Iterable
from typing import Final

from fewshot_automl.errors import UserError, unknown_name
from fewshot_automl.tasks.classes import Classes
from fewshot_automl.tasks.kind import TaskKind
from fewshot_automl.tasks.metric import Metric

TASK_KINDS: Final[dict[str, type[TaskKind]]] = {Classes.name: Classes}
"""By name. A column is offered to the last row first; almost any can be classes."""


def register_kind(row: type[TaskKind]) -> type[TaskKind]:
    """Add a kind of target to the table.

    Raises:
        UserError: If there is another of that name.
    """
    if TASK_KINDS.setdefault(row.name, row) is not row:
        raise UserError(f"Kind must have a new name, got {row.name!r}. Rename it.")
    return row


def kind_named(name: str) -> type[TaskKind]:
    """Return the row of that name.

    Raises:
        UnknownNameError: If there is none.
    """
    if name not in TASK_KINDS:
        raise unknown_name("target kind", name, TASK_KINDS, "fewshot fit --help")
    return TASK_KINDS[name]


def metric_named(name: str | Metric, kind: str = "classes") -> Metric:
    """Return the metric of that name that a kind of target has; one passes as it is.

    Raises:
        UnknownNameError: If it has none of that name.
    """
    if isinstance(name, Metric):
        return name
    known = kind_named(kind).metrics
    if name not in known:
        raise unknown_name("metric", name, known, "fewshot fit --help")
    return known[name]


def metric_names() -> Iterable[str]:
    """Return the names of the metrics of all kinds, each once."""
    return dict.fromkeys(name for row in TASK_KINDS.values() for name in row.metrics)
