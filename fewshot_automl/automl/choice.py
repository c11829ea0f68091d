"""Which trials become the model: the best, and those labels cannot tell from it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.automl.scoring import calibrated_temperature, predictions
from fewshot_automl.evaluation.calibration import apply_temperature
from fewshot_automl.outcome import History
from fewshot_automl.space import Config


def winner_of(history: History, smoothed: Mapping[int, float]) -> int:
    """Return the place of the trial with the best smoothed score; raw breaks ties."""
    return max(smoothed, key=lambda i: (smoothed[i], history[i][1].mean, -i))


def partners_of(
    winner: int,
    equal: Sequence[int],
    history: History,
    labels: Int[np.ndarray, " examples"],
    folder: Path,
    most: int,
    holds: Callable[[Sequence[int]], bool] = lambda places: True,
) -> list[int]:
    """Return trials to average with the winner, the most trusted first.

    With 8 labels a class the best trial is often best by luck. A partner cannot be
    told apart from the winner on the metric, has another backbone or another kind of
    training than the winner and the partners before it, and comes in the order of
    out-of-fold log loss, which is less noisy than a share of right answers. (Texts,
    8 a class, 3 backbones, 6 draws, quick methods, test accuracy: the best by the
    metric 0.669, 0.777, 0.841 on trec6, subj and clickbait; with two partners 0.659,
    0.828, 0.869; once, by hand: decision 0008.)

    Args:
        winner: Place of the best trial.
        equal: Places of the trials that cannot be told apart from it.
        history: All trials; those done have predictions.
        labels: Class indices of the labelled examples.
        folder: Where the predictions lie.
        most: Partners at most.
        holds: Whether the average of some trials is allowed; a partner with whom it
            is not is passed over.
    """
    losses = {
        i: calibrated_loss(labels, predictions(folder, history[i][1]))
        for i in equal
        if METHODS[history[i][0].text("method")].needs_backbone
    }
    kinds = {_kind(history[winner][0])}
    chosen: list[int] = []
    for i in sorted(losses, key=losses.__getitem__):
        is_new = len(chosen) < most and _kind(history[i][0]) not in kinds
        if is_new and holds([winner, *chosen, i]):
            kinds.add(_kind(history[i][0]))
            chosen.append(i)
    return chosen


def blended(
    labels: Int[np.ndarray, " examples"],
    probas: list[Float[np.ndarray, "_ examples classes"]],
) -> Float[np.ndarray, "repeats examples classes"]:
    """Return out-of-fold predictions of a blend, over the repeats all members have."""
    repeats = min(len(proba) for proba in probas)
    calibrated = [
        apply_temperature(row, calibrated_temperature(labels, proba))
        for proba in probas
        for row in proba[:repeats]
    ]
    stacked = np.stack(calibrated).reshape(len(probas), repeats, *probas[0].shape[1:])
    mean: np.ndarray = stacked.mean(axis=0)
    return mean


def calibrated_loss(
    labels: Int[np.ndarray, " examples"],
    proba: Float[np.ndarray, "repeats examples classes"],
) -> float:
    """Return the log loss of out-of-fold predictions at their own best temperature."""
    temperature = calibrated_temperature(labels, proba)
    truth = np.arange(len(labels)), labels
    likelihoods = [apply_temperature(row, temperature)[truth] for row in proba]
    return float(-np.log(np.maximum(likelihoods, 1e-12)).mean())


def _kind(config: Config) -> tuple[str, bool]:
    method = METHODS[config.text("method")]
    return str(config.get("backbone", "")), method.is_dear
