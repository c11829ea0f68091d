"""The table of executors."""

from collections.abc import Mapping
from typing import Final, Protocol

from fewshot_automl.errors import unknown_name
from fewshot_automl.executors.executor import Executor
from fewshot_automl.executors.in_process import InProcess
from fewshot_automl.executors.workers import WorkerProcesses


class Maker(Protocol):
    """Makes an executor."""

    def __call__(self, workers: int, *, gpus: int = 0) -> Executor:
        """Return one with so many workers, which share out so many GPUs."""
        ...


EXECUTORS: Final[Mapping[str, Maker]] = {
    "in_process": InProcess,
    "loky": WorkerProcesses,
}
"""What makes an executor, by name."""


def executor_named(name: str, workers: int, *, gpus: int = 0) -> Executor:
    """Return a new executor of the table.

    Args:
        name: Its row.
        workers: How many calls run at a time.
        gpus: How many GPUs workers share out, each seeing its own; 0 to let every
            worker see all.

    Raises:
        UnknownNameError: If the table has no such name.
        UserError: If the executor cannot have that many workers.
    """
    if name not in EXECUTORS:
        raise unknown_name("executor", name, EXECUTORS, "fewshot fit --help")
    return EXECUTORS[name](workers, gpus=gpus)
