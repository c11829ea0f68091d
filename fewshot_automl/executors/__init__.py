"""Runs trials: in this process, in worker processes beside it, or in all at once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from fewshot_automl.errors import unknown_name
from fewshot_automl.executors.executor import Executor, Finished, InProcess
from fewshot_automl.executors.ranks import Ranks, serve_if_launched
from fewshot_automl.executors.workers import WorkerProcesses, usable_cores

__all__ = [
    "EXECUTORS",
    "Executor",
    "Finished",
    "InProcess",
    "Ranks",
    "WorkerProcesses",
    "executor_named",
    "serve_if_launched",
    "usable_cores",
]

EXECUTORS: Final[Mapping[str, Callable[..., Executor]]] = {
    "in_process": InProcess,
    "loky": WorkerProcesses,
    "ranks": Ranks,
}
"""What makes an executor, by name: of so many workers, which share out GPUs."""


def executor_named(
    name: str, workers: int, *, gpus: int | Sequence[int] = 0
) -> Executor:
    """Return a new executor of the table; with 0 GPUs every worker sees all."""
    if name not in EXECUTORS:
        raise unknown_name("executor", name, EXECUTORS, "fewshot fit --help")
    return EXECUTORS[name](workers, gpus=gpus)
