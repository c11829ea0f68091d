"""The honest number: out-of-fold predictions of all trials, corrected for choosing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from fewshot_automl.evaluation.calibration import temperature_scaling
from fewshot_automl.evaluation.objectives import objective
from fewshot_automl.evaluation.predictions import load as load_predictions
from fewshot_automl.evaluation.selection import corrected_score, indistinguishable
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config

History = Sequence[tuple[Config, Outcome]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """An estimate of the metric on new data, in the metric's own direction."""

    metric: str
    """Name of the objective."""
    raw: float
    """Cross-validated score of the winner: too good, for it was picked by it."""
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
    winner: int,
    labels: Int[np.ndarray, " examples"],
    task_metric: str,
    folder: Path,
    seed: int,
) -> tuple[Score, list[bool]]:
    """Return the corrected score of the winner, and which trials equal it.

    Args:
        history: All trials; those done have predictions.
        winner: Position of the chosen trial.
        labels: Class indices of the labelled examples.
        task_metric: Objective the search maximised.
        folder: Where the predictions lie.
        seed: Of the bootstrap.
    """
    done = [i for i, (_, outcome) in enumerate(history) if outcome.is_done]
    probas = [predictions(folder, history[i][1]) for i in done]
    place = done.index(winner)
    measured = objective(task_metric)
    corrected = corrected_score(labels, probas, task_metric, seed=seed)
    equal = indistinguishable(labels, probas, task_metric, winner=place, seed=seed)
    low, high = sorted(map(measured.orient, (corrected.low, corrected.high)))
    score = Score(
        metric=task_metric,
        raw=measured.orient(history[winner][1].mean),
        corrected=measured.orient(corrected.score),
        low=low,
        high=high,
        examples=len(labels),
    )
    among = dict(zip(done, equal, strict=True))
    return score, [bool(among.get(i, False)) for i in range(len(history))]


def predictions(
    folder: Path, outcome: Outcome
) -> Float[np.ndarray, "repeats examples classes"]:
    """Return the out-of-fold probabilities of a done trial."""
    proba, _ = load_predictions(folder / outcome.predictions)
    return proba


def calibrated_temperature(
    labels: Int[np.ndarray, " examples"],
    proba: Float[np.ndarray, "repeats examples classes"],
) -> float:
    """Return the temperature that out-of-fold predictions ask for."""
    repeats = len(proba)
    return temperature_scaling(
        np.tile(labels, repeats), proba.reshape(-1, proba.shape[-1])
    )
