"""Compares whole programs that learn from few labels: same data, same clock.

A suite is a folder of task cards, an entrant is a command that reads files and writes
predictions. `run` keeps each run as a line of a file, `summarise` says who is ahead.
"""

from fewshot_automl.bench.entrant import ENTRANTS, Entrant
from fewshot_automl.bench.harness import run
from fewshot_automl.bench.results import Run, read_results
from fewshot_automl.bench.suite import Suite, TaskCard, load_suite
from fewshot_automl.bench.summary import Summary, summarise

__all__ = [
    "ENTRANTS",
    "Entrant",
    "Run",
    "Suite",
    "Summary",
    "TaskCard",
    "load_suite",
    "read_results",
    "run",
    "summarise",
]
