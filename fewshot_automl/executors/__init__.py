"""Runs trials: here, in worker processes, in several at once, or in a Ray cluster."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from fewshot_automl.errors import unknown_name
from fewshot_automl.executors.cluster import RayTasks
from fewshot_automl.executors.executor import Executor, Finished, InProcess
from fewshot_automl.executors.ranks import Ranks, serve_if_launched
from fewshot_automl.executors.workers import WorkerProcesses, usable_cores

__all__ = [
    "EXECUTORS",
    "Executor",
    "Finished",
    "InProcess",
    "Ranks",
    "RayTasks",
    "WorkerProcesses",
    "executor_named",
    "serve_if_launched",
    "usable_cores",
]

EXECUTORS: Final[Mapping[str, Callable[..., Executor]]] = {
    "in_process": InProcess,
    "loky": WorkerProcesses,
    "ranks": Ranks,
    "ray": RayTasks,
}
"""What makes an executor, by name: of so many workers, which share out GPUs."""


def executor_named(
    name: str,
    workers: int,
    *,
    gpus: Sequence[int] = (),
    address: str | None = None,
) -> Executor:
    """Return a new executor of the table, for GPUs with some numbers.

    Without numbers every worker sees all. Only that of a cluster heeds an address.
    """
    if name not in EXECUTORS:
        raise unknown_name("executor", name, EXECUTORS, "fewshot fit --help")
    if name == "ray":
        return RayTasks(workers, gpus=gpus, address=address)
    return EXECUTORS[name](workers, gpus=gpus)
