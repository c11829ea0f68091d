"""The meaning of a Config: the only door from the search to the models."""

from fewshot_automl.trial.context import Problem, TrialContext
from fewshot_automl.trial.evaluate import evaluate, refit
from fewshot_automl.trial.exact import build_bare, exact_measures
from fewshot_automl.trial.measures import card_measures, measures_of, size_of
from fewshot_automl.trial.space import space_for
from fewshot_automl.trial.workload import Workload

__all__ = [
    "Problem",
    "TrialContext",
    "Workload",
    "build_bare",
    "card_measures",
    "evaluate",
    "exact_measures",
    "measures_of",
    "refit",
    "size_of",
    "space_for",
]
