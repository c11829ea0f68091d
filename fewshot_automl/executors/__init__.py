"""Runs trials: in this process, or in worker processes beside it."""

from fewshot_automl.executors.executor import Executor, Finished, Ticket
from fewshot_automl.executors.in_process import InProcess
from fewshot_automl.executors.processes import LocalProcesses
from fewshot_automl.executors.table import EXECUTORS, executor_named

__all__ = [
    "EXECUTORS",
    "Executor",
    "Finished",
    "InProcess",
    "LocalProcesses",
    "Ticket",
    "executor_named",
]
