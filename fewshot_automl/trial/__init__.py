"""The meaning of a Config: the only door from the search to the models."""

from fewshot_automl.adaptation.saved import size_of
from fewshot_automl.trial.context import Problem, TrialContext
from fewshot_automl.trial.evaluate import evaluate, refit, scored, together
from fewshot_automl.trial.forecast import forecast
from fewshot_automl.trial.measures import build_bare, card_measures, exact_measures
from fewshot_automl.trial.space import space_for
from fewshot_automl.trial.workload import Workload, step_seconds

__all__ = [
    "Problem",
    "TrialContext",
    "Workload",
    "build_bare",
    "card_measures",
    "evaluate",
    "exact_measures",
    "forecast",
    "refit",
    "scored",
    "size_of",
    "space_for",
    "step_seconds",
    "together",
]
