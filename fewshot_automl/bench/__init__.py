"""Compares whole programs that learn from few labels: same data, same clock.

A suite is a folder of task cards, an entrant is a command that reads files and writes
predictions. `run` keeps each run as a line of a file, `summarise` says who is ahead.
"""

from fewshot_automl.bench.entrant import Entrant, entrant_named
from fewshot_automl.bench.harness import run
from fewshot_automl.bench.results import Run, read_results
from fewshot_automl.bench.suite import load_suite
from fewshot_automl.bench.summary import Summary, summarise

__all__ = [
    "Entrant",
    "Run",
    "Summary",
    "entrant_named",
    "load_suite",
    "read_results",
    "run",
    "summarise",
]
