"""Trains any module on any rows: the loop, schedules, batches, losses, places."""

from fewshot_automl.training.batches import Sampler, balanced, shuffled
from fewshot_automl.training.loop import Loss, train
from fewshot_automl.training.losses import cross_entropy, supervised_contrastive
from fewshot_automl.training.placement import Placement, choose_placement
from fewshot_automl.training.settings import SCHEDULES, TrainingSettings

__all__ = [
    "SCHEDULES",
    "Loss",
    "Placement",
    "Sampler",
    "TrainingSettings",
    "balanced",
    "choose_placement",
    "cross_entropy",
    "shuffled",
    "supervised_contrastive",
    "train",
]
