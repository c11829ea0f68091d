"""The table of executors."""

from collections.abc import Callable, Mapping
from typing import Final

from fewshot_automl.errors import unknown_name
from fewshot_automl.executors.executor import Executor
from fewshot_automl.executors.in_process import InProcess
from fewshot_automl.executors.processes import LocalProcesses

EXECUTORS: Final[Mapping[str, Callable[[int], Executor]]] = {
    "in_process": InProcess,
    "processes": LocalProcesses,
}
"""Makes an executor with a number of workers, by name."""


def executor_named(name: str, workers: int) -> Executor:
    """Return a new executor of the table.

    Raises:
        UnknownNameError: If the table has no such name.
        UserError: If the executor cannot have that many workers.
    """
    if name not in EXECUTORS:
        raise unknown_name("executor", name, EXECUTORS, "fewshot fit --help")
    return EXECUTORS[name](workers)
