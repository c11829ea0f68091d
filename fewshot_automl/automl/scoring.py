"""The honest number: out-of-fold outputs of all trials, corrected for choosing."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Int

from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.automl.result import Score
from fewshot_automl.evaluation.intervals import (
    correct_for_selection,
    indistinguishable,
)
from fewshot_automl.evaluation.measures import MEASURES, added_up
from fewshot_automl.evaluation.resampling import pooled_score, predicted_rows
from fewshot_automl.outcome import REFINEMENT, History, Outcome
from fewshot_automl.space import Config
from fewshot_automl.trial import Problem

Outputs = Float[np.ndarray, "repeats examples width"]

LEAST_KEPT: Final = 0.1
"""Share of a score's luck that survives in a posterior mean, at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """The trials of a study, by their number, and the problem they were tried on."""

    problem: Problem
    history: History
    outputs: Mapping[int, Outputs]
    """Out-of-fold, of the trials that are done."""

    def config(self, number: int) -> Config:
        """Return what a trial tried."""
        return self.history[number][0]

    def outcome(self, number: int) -> Outcome:
        """Return what came of it."""
        return self.history[number][1]

    def trains(self, number: int) -> bool:
        """Return whether a trial trained by gradient steps."""
        return METHODS[self.config(number).text("method")].trains

    def calibration(self, number: int) -> dict[str, float]:
        """Return what puts the confidence of a trial's outputs right."""
        rules, targets = self.problem.task.rules, self.problem.targets
        return rules.fit_calibration(targets, self.outputs[number])

    def together(self, numbers: Sequence[int]) -> Outputs:
        """Return out-of-fold outputs of one trial, or of an ensemble of several.

        Those of an ensemble are calibrated, over the repeats that all members have.
        """
        if len(numbers) == 1:
            return self.outputs[numbers[0]]
        repeats = min(len(self.outputs[number]) for number in numbers)
        calibrate = self.problem.task.rules.calibrate
        members = [
            calibrate(self.outputs[number], self.calibration(number))[:repeats]
            for number in numbers
        ]
        mean: np.ndarray = np.mean(members, axis=0)
        return mean

    def measures(self, numbers: Sequence[int]) -> dict[str, float]:
        """Return the expected measures of a model of one trial, or of several.

        Sizes and times add up; others are those of the averaged outputs.
        """
        values = added_up([self.outcome(number).measures for number in numbers])
        predicted = predicted_rows(self.problem.targets, self.together(numbers))
        rows = [self.problem.task.rules.measures(y, x) for y, x in predicted]
        names = MEASURES.keys() & rows[0].keys()
        return values | {n: float(np.mean([row[n] for row in rows])) for n in names}


def cross_calibrated(
    problem: Problem, outputs: Outputs, folds: Int[np.ndarray, "repeats examples"]
) -> Outputs:
    """Return out-of-fold outputs, calibrated as the model's will be.

    What calibrates a fold is fitted on the other folds, so that a score of
    probabilities (log loss, Brier) is that of a calibrated model, unflattered.
    """
    rules, targets = problem.task.rules, problem.targets
    calibrated = np.empty(outputs.shape, dtype=np.float64)
    for row, (predicted, assigned) in enumerate(zip(outputs, folds, strict=True)):
        for fold in np.unique(assigned):
            held = assigned == fold
            found = rules.fit_calibration(targets[~held], predicted[None, ~held])
            calibrated[row, held] = rules.calibrate(predicted[held], found)
    return calibrated


def honest_score(
    tried: Tried, scores: Mapping[int, float], model: Outputs, seed: int
) -> Score:
    """Return the score of the model, corrected for having been picked.

    The model was picked by posterior means, not by raw scores; so does the bootstrap.
    It stands among the trials as one more candidate, for it may be an ensemble.
    `scores` are the posterior means of those that could win; `model` are its outputs,
    calibrated.
    """
    targets, metric = tried.problem.targets, tried.problem.task.measured
    share = len(tried.problem.folds.first[0].train) / len(targets)
    every = [model, *(tried.outputs[i] for i in scores)]
    # Scored as the correction scores them; a mean over repeats may differ from it.
    raw = np.array([pooled_score(metric, targets, outputs) for outputs in every])
    bonus = _bonus(raw, np.array([max(scores.values()), *scores.values()]))
    corrected = correct_for_selection(
        targets, every, metric, bonus=bonus, trained_share=share, seed=seed
    )
    low, high = sorted(map(metric.orient, (corrected.low, corrected.high)))
    return Score(
        metric=metric.name,
        raw=metric.orient(float(raw[0])),
        corrected=metric.orient(corrected.score),
        low=low,
        high=high,
        examples=len(targets),
    )


def _bonus(
    raw: Float[np.ndarray, " models"], means: Float[np.ndarray, " models"]
) -> Float[np.ndarray, " models"]:
    """Return what to add to raw scores so that the best is picked as it was picked.

    A posterior mean is taken as linear in the scores: of a trial's luck in a draw, only
    the share `kept` reaches it. Picking by ``mean + kept * luck`` is picking by
    ``raw + luck + bonus`` with the bonus returned. The first is the model and lifted to
    the top, whatever it was picked for.
    """
    spread = float(raw.var())
    slope = float(np.cov(raw, means, bias=True)[0, 1]) / spread if spread else 1.0
    kept = float(np.clip(slope, LEAST_KEPT, 1.0))
    bonus: np.ndarray = means / kept - raw
    bonus[0] += float((raw + bonus).max() - (raw + bonus)[0]) + 1e-9
    return bonus


def equal_trials(tried: Tried, winner: int, seed: int) -> list[int]:
    """Return the numbers of the trials that cannot be told apart from the winner."""
    problem, done = tried.problem, list(tried.outputs)
    equal = indistinguishable(
        problem.targets,
        list(tried.outputs.values()),
        problem.task.measured,
        winner=done.index(winner),
        seed=seed,
    )
    return [i for i, same in zip(done, equal, strict=True) if same]


def partners_of(
    tried: Tried,
    winner: int,
    equal: Sequence[int],
    most: int,
    holds: Callable[[Sequence[int]], bool] = lambda numbers: True,
) -> list[int]:
    """Return trials to average with the winner, the most trusted first.

    With 8 labels a class the best trial is often best by luck. A partner cannot be
    told apart from the winner on the metric, has another backbone or another kind of
    training than the winner and the partners before it, and comes in the order of
    out-of-fold log loss, which is less noisy than a share of right answers. (Texts,
    8 a class, 6 draws, cheap methods, test accuracy: the best by the metric 0.669,
    0.777, 0.841 on trec6, subj and clickbait; with two partners 0.659, 0.828, 0.869;
    once, by hand: decision 0008.) Partners with whom the average does not hold are
    passed over.
    """

    def kind(number: int) -> tuple[str, bool]:
        backbone = tried.config(number).get("backbone", "")
        return str(backbone), tried.trains(number)

    losses = {
        i: tried.outcome(i).measures.get(REFINEMENT, math.inf)
        for i in equal
        if METHODS[tried.config(i).text("method")].needs_backbone
    }
    chosen: list[int] = []
    for i in sorted(losses, key=losses.__getitem__):
        kinds = set(map(kind, [winner, *chosen]))
        is_new = len(chosen) < most and kind(i) not in kinds
        if is_new and holds([winner, *chosen, i]):
            chosen.append(i)
    return chosen
