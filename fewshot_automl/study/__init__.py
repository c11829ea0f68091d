"""Runs a study: suggest, record, submit, record, until the budget is spent."""

from fewshot_automl.study.agenda import trial_seed
from fewshot_automl.study.budget import Budget, parse_budget
from fewshot_automl.study.loop import SECONDS_USED, run
from fewshot_automl.study.parts import Ending, Evaluate, Event, Patience, StudyEnd

__all__ = [
    "SECONDS_USED",
    "Budget",
    "Ending",
    "Evaluate",
    "Event",
    "Patience",
    "StudyEnd",
    "parse_budget",
    "run",
    "trial_seed",
]
