"""Judges predictions: folds, objectives, intervals, selection, calibration."""

from fewshot_automl.evaluation.ensembles import (
    blend,
    greedy_ensemble,
    mean_over_repeats,
)
from fewshot_automl.evaluation.folds import Fold, Folds, choose_folds
from fewshot_automl.evaluation.intervals import (
    bootstrap_interval,
    standard_error,
    standard_error_of_folds,
    wilson_interval,
)
from fewshot_automl.evaluation.predictions import (
    Predictions,
    load_predictions,
    save_predictions,
)
from fewshot_automl.evaluation.resampling import pooled_score
from fewshot_automl.evaluation.selection import (
    Corrected,
    correct_for_selection,
    indistinguishable,
)
from fewshot_automl.tasks import (
    Metric,
)
from fewshot_automl.tasks.calibration import (
    apply_temperature,
    expected_calibration_error,
    fit_temperature,
    refinement_loss,
    reliability,
)

__all__ = [
    "Corrected",
    "Fold",
    "Folds",
    "Metric",
    "Predictions",
    "apply_temperature",
    "blend",
    "bootstrap_interval",
    "choose_folds",
    "correct_for_selection",
    "expected_calibration_error",
    "fit_temperature",
    "greedy_ensemble",
    "indistinguishable",
    "load_predictions",
    "mean_over_repeats",
    "pooled_score",
    "refinement_loss",
    "reliability",
    "save_predictions",
    "standard_error",
    "standard_error_of_folds",
    "wilson_interval",
]
