"""Judges predictions: folds, objectives, intervals, selection, calibration."""

from fewshot_automl.evaluation.folds import Fold, Folds, choose_folds
from fewshot_automl.evaluation.objectives import (
    OBJECTIVES,
    Objective,
    objective,
    score,
)

__all__ = [
    "OBJECTIVES",
    "Fold",
    "Folds",
    "Objective",
    "choose_folds",
    "objective",
    "score",
]
