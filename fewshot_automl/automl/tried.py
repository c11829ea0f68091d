"""What a study has tried, with the out-of-fold outputs of every trial."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.evaluation.measures import MEASURES, added_up
from fewshot_automl.ledger import Ledger
from fewshot_automl.outcome import REFINEMENT, History, Outcome
from fewshot_automl.space import Config
from fewshot_automl.trial import Problem

Outputs = Float[np.ndarray, "repeats examples width"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """The trials of a study, by their number, and the problem they were tried on."""

    problem: Problem
    """What was learnt."""
    history: History
    """Every trial."""
    ledger: Ledger
    """Keeps the outputs of those that are done."""
    _outputs: dict[int, Outputs] = field(default_factory=dict, repr=False)

    def config(self, number: int) -> Config:
        """Return what a trial tried."""
        return self.history[number][0]

    def outcome(self, number: int) -> Outcome:
        """Return what came of it."""
        return self.history[number][1]

    @property
    def done(self) -> list[int]:
        """Return the numbers of the done trials."""
        return [i for i, (_, outcome) in enumerate(self.history) if outcome.is_done]

    def trains(self, number: int) -> bool:
        """Return whether a trial trained by gradient steps."""
        return METHODS[self.config(number).text("method")].trains

    def outputs(self, number: int) -> Outputs:
        """Return the out-of-fold outputs of a done trial."""
        if number not in self._outputs:
            self._outputs[number] = self.ledger.outputs(self.config(number))
        return self._outputs[number]

    def calibration(self, number: int) -> dict[str, float]:
        """Return what puts the confidence of a trial's outputs right."""
        problem = self.problem
        return problem.task.rules.fit_calibration(problem.targets, self.outputs(number))

    def together(self, numbers: Sequence[int]) -> Outputs:
        """Return out-of-fold outputs of one trial, or of an ensemble of several.

        Those of an ensemble are calibrated, over the repeats that all members have.
        """
        if len(numbers) == 1:
            return self.outputs(numbers[0])
        repeats = min(len(self.outputs(number)) for number in numbers)
        members = [self._calibrated(number)[:repeats] for number in numbers]
        mean: np.ndarray = np.mean(members, axis=0)
        return mean

    def measures(self, numbers: Sequence[int]) -> dict[str, float]:
        """Return the expected measures of a model of one trial, or of several.

        Sizes and times add up; others are those of the averaged outputs.
        """
        values = added_up([self.outcome(number).measures for number in numbers])
        return {**values, **self.measured(self.together(numbers))}

    def measured(self, outputs: Outputs) -> dict[str, float]:
        """Return the measures of outputs that have limits, averaged over repeats."""
        problem = self.problem
        rows = [problem.task.rules.measures(problem.targets, x) for x in outputs]
        names = MEASURES.keys() & rows[0].keys()
        return {name: float(np.mean([row[name] for row in rows])) for name in names}

    def refinement(self, number: int) -> float:
        """Return the loss of a trial's outputs once their confidence is right."""
        return self.outcome(number).measures.get(REFINEMENT, math.inf)

    def _calibrated(self, number: int) -> Outputs:
        task = self.problem.task
        return task.rules.calibrate(self.outputs(number), self.calibration(number))


def cross_calibrated(
    problem: Problem, outputs: Outputs, folds: Int[np.ndarray, "repeats examples"]
) -> Outputs:
    """Return out-of-fold outputs, calibrated as the model's will be.

    What calibrates a fold is fitted on the other folds, so that a score of
    probabilities (log loss, Brier) is that of a calibrated model, unflattered.
    """
    task, targets = problem.task, problem.targets
    calibrated = np.empty(outputs.shape, dtype=np.float64)
    for row, (predicted, assigned) in enumerate(zip(outputs, folds, strict=True)):
        for fold in np.unique(assigned):
            held = assigned == fold
            found = task.rules.fit_calibration(targets[~held], predicted[None, ~held])
            calibrated[row, held] = task.rules.calibrate(predicted[held], found)
    return calibrated
