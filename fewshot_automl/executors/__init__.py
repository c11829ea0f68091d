"""Runs trials: in this process, or in worker processes beside it."""

from fewshot_automl.executors.executor import Executor, Finished, Ticket
from fewshot_automl.executors.in_process import InProcess
from fewshot_automl.executors.table import EXECUTORS, executor_named
from fewshot_automl.executors.workers import WorkerProcesses

__all__ = [
    "EXECUTORS",
    "Executor",
    "Finished",
    "InProcess",
    "Ticket",
    "WorkerProcesses",
    "executor_named",
]
