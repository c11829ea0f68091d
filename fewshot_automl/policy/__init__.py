"""What to spend, what to try first and who leads; it knows numbers and no models."""

from fewshot_automl.policy.costs import Arithmetic, CostModel
from fewshot_automl.policy.defaults import Method, ladder, options, training_methods
from fewshot_automl.policy.leader import Leader, Ranking
from fewshot_automl.policy.limits import Allowed, Predicate, broken, excess
from fewshot_automl.policy.opening import Opening
from fewshot_automl.policy.plan import (
    Plan,
    Situation,
    Splits,
    draw_plan,
    saving_seconds,
)
from fewshot_automl.policy.reserve import Reserve

__all__ = [
    "Allowed",
    "Arithmetic",
    "CostModel",
    "Leader",
    "Method",
    "Opening",
    "Plan",
    "Predicate",
    "Ranking",
    "Reserve",
    "Situation",
    "Splits",
    "broken",
    "draw_plan",
    "excess",
    "ladder",
    "options",
    "saving_seconds",
    "training_methods",
]
