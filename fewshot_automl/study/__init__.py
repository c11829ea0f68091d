"""Runs a study: suggest, record, submit, record, until the budget is spent."""

from fewshot_automl.study.agenda import trial_seed
from fewshot_automl.study.loop import SECONDS_USED, run
from fewshot_automl.study.parts import Budget, Event, Study, StudyEnd, parse_budget

__all__ = [
    "SECONDS_USED",
    "Budget",
    "Event",
    "Study",
    "StudyEnd",
    "parse_budget",
    "run",
    "trial_seed",
]
