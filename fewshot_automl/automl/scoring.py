"""The honest number: out-of-fold predictions of all trials, corrected for choosing."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int

from fewshot_automl.evaluation.calibration import apply_temperature, fit_temperature
from fewshot_automl.evaluation.objectives import objective
from fewshot_automl.evaluation.predictions import load_predictions
from fewshot_automl.evaluation.resampling import pooled_score
from fewshot_automl.evaluation.selection import (
    correct_for_selection,
    indistinguishable,
)
from fewshot_automl.outcome import History, Outcome

LEAST_KEPT: Final = 0.1
"""Share of a score's luck that survives smoothing, at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """An estimate of the metric on new data, in the metric's own direction."""

    metric: str
    """Name of the objective."""
    raw: float
    """Cross-validated score of the model: too good, for it was picked by it."""
    corrected: float
    """The same, corrected for having picked the best of many."""
    low: float
    """Lower end of the 95 % interval for the score on new data."""
    high: float
    """Upper end of it."""
    examples: int
    """Labelled examples behind it."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}

    def __str__(self) -> str:
        """Return the score with its interval."""
        return (
            f"{self.metric} {self.corrected:.3f} "
            f"(95 % interval {self.low:.3f} to {self.high:.3f})"
        )


def honest_score(
    history: History,
    smoothed: Mapping[int, float],
    model: Float[np.ndarray, "repeats examples classes"],
    labels: Int[np.ndarray, " examples"],
    metric: str,
    folder: Path,
    seed: int,
) -> Score:
    """Return the score of the model, corrected for having been picked.

    The model was picked by smoothed, not raw, scores; so does the bootstrap. It
    stands among the trials as one more candidate, for it may be a blend of several.

    Args:
        history: All trials.
        smoothed: What each trial that could win was judged by, from
            `smoothed_scores`; all of them ran all their folds.
        model: Out-of-fold predictions of the model, calibrated.
        labels: Class indices of the labelled examples.
        metric: Objective the search maximised.
        folder: Where the predictions lie.
        seed: Of the bootstrap.
    """
    probas = [model, *(predictions(folder, history[i][1]) for i in smoothed)]
    # Scored as the correction scores them; a mean over repeats may differ from it.
    raw = np.array([pooled_score(metric, labels, proba) for proba in probas])
    bonus = _bonus(raw, np.array([max(smoothed.values()), *smoothed.values()]))
    corrected = correct_for_selection(labels, probas, metric, bonus=bonus, seed=seed)
    measured = objective(metric)
    low, high = sorted(map(measured.orient, (corrected.low, corrected.high)))
    return Score(
        metric=metric,
        raw=measured.orient(float(raw[0])),
        corrected=measured.orient(corrected.score),
        low=low,
        high=high,
        examples=len(labels),
    )


def equal_trials(
    history: History,
    winner: int,
    labels: Int[np.ndarray, " examples"],
    metric: str,
    folder: Path,
    seed: int,
) -> list[int]:
    """Return the places of the trials that cannot be told apart from the winner."""
    done = [i for i, (_, outcome) in enumerate(history) if outcome.is_done]
    probas = [predictions(folder, history[i][1]) for i in done]
    equal = indistinguishable(
        labels, probas, metric, winner=done.index(winner), seed=seed
    )
    return [i for i, same in zip(done, equal, strict=True) if same]


def _bonus(
    raw: Float[np.ndarray, " models"], smoothed: Float[np.ndarray, " models"]
) -> Float[np.ndarray, " models"]:
    """Return what to add to raw scores so that the best is picked as it was picked.

    Smoothing is taken as linear in the scores: of a trial's luck in a draw, only the
    share `kept` reaches its smoothed score. Picking by ``smoothed + kept * luck`` is
    picking by ``raw + luck + bonus`` with the bonus returned. The first is the model
    and lifted to the top, whatever it was picked for.
    """
    spread = float(raw.var())
    slope = float(np.cov(raw, smoothed, bias=True)[0, 1]) / spread if spread else 1.0
    kept = float(np.clip(slope, LEAST_KEPT, 1.0))
    bonus: np.ndarray = smoothed / kept - raw
    bonus[0] += float((raw + bonus).max() - (raw + bonus)[0]) + 1e-9
    return bonus


def predictions(
    folder: Path, outcome: Outcome
) -> Float[np.ndarray, "repeats examples classes"]:
    """Return the out-of-fold probabilities of a done trial."""
    return load_predictions(folder / outcome.predictions).proba


def calibrated_temperature(
    labels: Int[np.ndarray, " examples"],
    proba: Float[np.ndarray, "repeats examples classes"],
) -> float:
    """Return the temperature that out-of-fold predictions ask for."""
    repeats = len(proba)
    return fit_temperature(proba.reshape(-1, proba.shape[-1]), np.tile(labels, repeats))


def cross_calibrated(
    labels: Int[np.ndarray, " examples"],
    proba: Float[np.ndarray, "repeats examples classes"],
    folds: Int[np.ndarray, "repeats examples"],
) -> Float[np.ndarray, "repeats examples classes"]:
    """Return out-of-fold predictions, calibrated as the model's will be.

    Each fold's temperature is fitted on the other folds, so that a score of
    probabilities (log loss, Brier) is that of a calibrated model, unflattered.
    """
    calibrated = np.empty_like(proba)
    for row, (predicted, assigned) in enumerate(zip(proba, folds, strict=True)):
        for fold in np.unique(assigned):
            held = assigned == fold
            temperature = fit_temperature(predicted[~held], labels[~held])
            calibrated[row, held] = apply_temperature(predicted[held], temperature)
    return calibrated
