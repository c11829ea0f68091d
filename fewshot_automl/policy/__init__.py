"""What to spend, what to try first and who leads; it knows numbers and no models."""

from fewshot_automl.policy.allowed import Allowed
from fewshot_automl.policy.costs import Arithmetic, CostModel
from fewshot_automl.policy.defaults import ladder, options, training_methods
from fewshot_automl.policy.leader import Leader, Ranking, broken, excess
from fewshot_automl.policy.opening import Opening
from fewshot_automl.policy.placing import PlacementPlan, plan_placement
from fewshot_automl.policy.plan import (
    Plan,
    Situation,
    Splits,
    draw_plan,
    saving_seconds,
)

__all__ = [
    "Allowed",
    "Arithmetic",
    "CostModel",
    "Leader",
    "Opening",
    "PlacementPlan",
    "Plan",
    "Ranking",
    "Situation",
    "Splits",
    "broken",
    "draw_plan",
    "excess",
    "ladder",
    "options",
    "plan_placement",
    "saving_seconds",
    "training_methods",
]
