"""What a study has tried, with the out-of-fold outputs of every trial."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.evaluation.calibration import apply_temperature, fit_temperature
from fewshot_automl.evaluation.measures import added_up
from fewshot_automl.evaluation.objectives import score
from fewshot_automl.ledger import Ledger
from fewshot_automl.outcome import History, Outcome
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
        return METHODS[self.config(number).text("method")].is_dear

    def outputs(self, number: int) -> Outputs:
        """Return the out-of-fold outputs of a done trial."""
        if number not in self._outputs:
            self._outputs[number] = self.ledger.outputs(self.config(number))
        return self._outputs[number]

    def temperature(self, number: int) -> float:
        """Return the temperature that a trial's out-of-fold outputs ask for."""
        return temperature_of(self.problem.labels, self.outputs(number))

    def together(self, numbers: Sequence[int]) -> Outputs:
        """Return out-of-fold outputs of one trial, or of an ensemble of several.

        Those of an ensemble are calibrated, over the repeats that all members have.
        """
        if len(numbers) == 1:
            return self.outputs(numbers[0])
        repeats = min(len(self.outputs(number)) for number in numbers)
        calibrated = [
            np.stack(
                [
                    apply_temperature(row, self.temperature(number))
                    for row in self.outputs(number)[:repeats]
                ]
            )
            for number in numbers
        ]
        mean: np.ndarray = np.mean(calibrated, axis=0)
        return mean

    def measures(self, numbers: Sequence[int]) -> dict[str, float]:
        """Return the expected measures of a model of one trial, or of several.

        Sizes and times add up; the weakest class is that of the averaged outputs.
        """
        values = added_up([self.outcome(number).measures for number in numbers])
        return {**values, "worst_recall": self.worst_recall(self.together(numbers))}

    def worst_recall(self, outputs: Outputs) -> float:
        """Return the recall of the class found least, averaged over repeats."""
        labels = self.problem.labels
        return float(np.mean([score("worst_class_recall", labels, x) for x in outputs]))

    def loss(self, number: int) -> float:
        """Return the log loss of a trial's outputs at their own best temperature."""
        labels, temperature = self.problem.labels, self.temperature(number)
        truth = np.arange(len(labels)), labels
        likelihoods = [
            apply_temperature(row, temperature)[truth] for row in self.outputs(number)
        ]
        return float(-np.log(np.maximum(likelihoods, 1e-12)).mean())


def temperature_of(
    labels: Int[np.ndarray, " examples"], outputs: Outputs
) -> float:
    """Return the temperature that out-of-fold outputs ask for."""
    rows = outputs.reshape(-1, outputs.shape[-1])
    return fit_temperature(rows, np.tile(labels, len(outputs)))


def cross_calibrated(
    labels: Int[np.ndarray, " examples"],
    outputs: Outputs,
    folds: Int[np.ndarray, "repeats examples"],
) -> Outputs:
    """Return out-of-fold outputs, calibrated as the model's will be.

    Each fold's temperature is fitted on the other folds, so that a score of
    probabilities (log loss, Brier) is that of a calibrated model, unflattered.
    """
    calibrated = np.empty(outputs.shape, dtype=np.float64)
    for row, (predicted, assigned) in enumerate(zip(outputs, folds, strict=True)):
        for fold in np.unique(assigned):
            held = assigned == fold
            temperature = fit_temperature(predicted[~held], labels[~held])
            calibrated[row, held] = apply_temperature(predicted[held], temperature)
    return calibrated

