"""The honest number: out-of-fold outputs of all trials, corrected for choosing."""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Float64

from fewshot_automl.adaptation.frozen import reads_windows
from fewshot_automl.adaptation.method import Method
from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.automl.result import Score
from fewshot_automl.evaluation.committee import (
    average,
    choosing_gaps,
    committee_weights,
    stacked,
)
from fewshot_automl.evaluation.intervals import (
    correct_for_selection,
    indistinguishable,
)
from fewshot_automl.evaluation.measures import MEASURES, added_up, greatest
from fewshot_automl.evaluation.resampling import (
    example_values,
    is_predicted,
    pooled_score,
    predicted_rows,
)
from fewshot_automl.outcome import History, Outcome
from fewshot_automl.space import Config
from fewshot_automl.tasks import Task
from fewshot_automl.tasks.classes import Classes
from fewshot_automl.trial import Problem

Outputs = Float[np.ndarray, "repeats examples width"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """The trials of a study, by their number, and the problem they were tried on."""

    problem: Problem
    history: History
    outputs: Mapping[int, Outputs]
    """Out-of-fold, of the trials that are done."""
    _evidence: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    def config(self, number: int) -> Config:
        """Return what a trial tried."""
        return self.history[number][0]

    def outcome(self, number: int) -> Outcome:
        """Return what came of it."""
        return self.history[number][1]

    def method(self, number: int) -> Method:
        """Return the row of what a trial tried."""
        return METHODS[self.config(number).text("method")]

    def kind(self, number: int) -> tuple[str, str]:
        """Return what a trial has in common with its near copies."""
        config = self.config(number)
        return str(config.get("backbone", "")), config.text("method")

    def calibration(self, number: int) -> dict[str, float]:
        """Return what puts the confidence of a trial's outputs right."""
        return calibration_of(self.problem, self.outputs[number])

    def calibrated(self, number: int) -> Outputs:
        """Return a trial's outputs, their confidence put right."""
        rules = self.problem.task.rules
        return rules.calibrate(self.outputs[number], self.calibration(number))

    def evidence(self, number: int) -> Float64[np.ndarray, " examples"]:
        """Return how probable a trial's calibrated outputs make each target."""
        if number not in self._evidence:
            targets, rules = self.problem.targets, self.problem.task.rules
            self._evidence[number] = example_values(
                targets, self.calibrated(number), rules.log_likelihood
            )
        return self._evidence[number]

    def together(self, weights: Mapping[int, float]) -> Outputs:
        """Return out-of-fold outputs of one trial, or of a committee of several.

        Those of a committee are calibrated, of the repeats and the examples that all
        members have.
        """
        if len(weights) == 1:
            return self.outputs[next(iter(weights))]
        repeats = min(len(self.outputs[number]) for number in weights)
        members = [self.calibrated(number)[:repeats] for number in weights]
        return average(stacked(members), np.array([*weights.values()]))

    def measures(self, weights: Mapping[int, float]) -> dict[str, float]:
        """Return the expected measures of a model of one trial, or of several.

        Sizes and times add up, those of a shared backbone counted once; others are
        those of the averaged outputs.
        """
        shared: dict[Hashable, list[Mapping[str, float]]] = defaultdict(list)
        for number in weights:
            shared[self.frozen(number)].append(self.outcome(number).measures)
        values = added_up([greatest(parts) for parts in shared.values()])
        predicted = predicted_rows(self.problem.targets, self.together(weights))
        rows = [self.problem.task.rules.measures(y, x) for y, x in predicted]
        names = MEASURES.keys() & rows[0].keys()
        return values | {n: float(np.mean([row[n] for row in rows])) for n in names}

    def frozen(self, number: int) -> Hashable:
        """Return what trials have in common that share one pass of a backbone."""
        config = self.config(number)
        if "backbone" not in config or self.method(number).trains:
            return number
        return config["backbone"], reads_windows(config)


def cross_calibrated(problem: Problem, outputs: Outputs) -> Outputs:
    """Return out-of-fold outputs, calibrated as the model's will be.

    What calibrates a fold is fitted on the other folds, so that a score of
    probabilities (log loss, Brier) is that of a calibrated model, unflattered.
    """
    rules = problem.task.rules
    calibrated = np.empty(outputs.shape, dtype=np.float64)
    parts = zip(outputs, problem.folds.assignment, strict=False)  # it may have fewer
    for row, (predicted, assigned) in enumerate(parts):
        for fold in np.unique(assigned):
            held = assigned == fold
            others = np.where(held[:, None], np.nan, predicted)
            found = calibration_of(problem, others[None])
            calibrated[row, held] = rules.calibrate(predicted[held], found)
    return calibrated


def calibration_of(problem: Problem, outputs: Outputs) -> dict[str, float]:
    """Return what calibrates outputs, fitted to the examples that they predict."""
    there = is_predicted(outputs).all(axis=0)
    if not there.any():
        return {}
    rules, targets = problem.task.rules, problem.targets
    return rules.fit_calibration(targets[there], outputs[:, there])


def committee(
    tried: Tried,
    pool: Sequence[int],
    most: int,
    holds: Callable[[Mapping[int, float]], bool] = lambda weights: True,
) -> dict[int, float]:
    """Return the trials that make the model, with their weights, the greatest first.

    If together they do not hold, the one of least weight goes and the others are
    weighted again. The first of the pool stands alone where nothing tells how probable
    outputs make the targets.
    """
    evidence = np.array([tried.evidence(number) for number in pool])
    if np.isnan(evidence).all():
        return {pool[0]: 1.0}
    kinds = [tried.kind(number) for number in pool]
    weights = committee_weights(evidence, kinds, most=most)[0]
    order = [int(at) for at in np.argsort(-weights, kind="stable") if weights[at] > 0]
    chosen = {pool[at]: float(weights[at]) for at in order}
    if len(chosen) == 1 or holds(chosen):
        return chosen
    return committee(tried, list(chosen)[:-1], most, holds)


def honest_score(
    tried: Tried,
    pool: Sequence[int],
    most: int,
    model: Outputs,
    task: Task,
    seed: int,
    luck: float = 0.0,
) -> Score:
    """Return the score of the model, corrected for having been chosen and weighted.

    `pool` are the trials that could be members; `model` are its outputs, calibrated,
    which `task` decides on. `luck` is what is known to be too good about them all.
    """
    problem = tried.problem
    targets, metric = problem.targets, problem.task.measured
    evidence = np.array([tried.evidence(number) for number in pool])
    gaps = np.zeros(1)
    if not np.isnan(evidence).all():
        gaps = choosing_gaps(
            targets,
            lambda at: tried.calibrated(pool[at]),
            metric,
            evidence,
            [tried.kind(number) for number in pool],
            most=most,
            seed=seed,
        )
    share = len(problem.folds.first[0].train) / len(targets)
    return score_of(task, targets, model, gaps + luck, share, seed)


def score_of(
    task: Task,
    targets: np.ndarray,
    model: Outputs,
    gaps: Float[np.ndarray, " draws"],
    share: float,
    seed: int,
) -> Score:
    """Return the score of a model, given how much too good its choice makes it.

    `share` is how much of the examples each fold trained on.
    """
    metric, model = task.measured, as_decided(task, model)
    nothing = task.rules.no_information(targets)
    scored = np.isfinite(model).any(axis=0)
    constant = np.where(scored, nothing, np.nan)
    majority = pooled_score(metric, targets, constant)
    found = correct_for_selection(
        targets,
        model,
        metric,
        gaps,
        trained_share=share,
        constant=majority,
        seed=seed,
    )
    verdict: Literal["better", "unclear", "not better"] = "better"
    if found.low <= majority:
        verdict = "unclear" if found.expected > majority else "not better"
    low, high = sorted(map(metric.orient, (found.low, found.high)))
    return Score(
        metric=metric.name,
        expected=metric.orient(found.expected),
        raw=metric.orient(found.raw_score),
        corrected=metric.orient(found.score),
        low=low,
        high=high,
        examples=int(scored.any(axis=1).sum()),
        majority=metric.orient(majority) if math.isfinite(majority) else None,
        against_majority=verdict,
    )


def as_decided(task: Task, outputs: Outputs) -> Outputs:
    """Return outputs as scores see them: answers, where others than the likeliest."""
    weighs = task.costs is not None and task.costs.factors
    if task.measured.needs != "decisions" or task.metric == "cost" or not weighs:
        return outputs
    return decided_by(task, outputs, must_answer=True)


def decided_by(task: Task, outputs: Outputs, *, must_answer: bool) -> np.ndarray:
    """Return a 1 for what each row is answered with; the last column is no answer."""
    if must_answer:
        task = replace(task, costs=task.costs and task.costs.always)
    width = task.width + (not must_answer)
    there = np.isfinite(outputs).all(axis=2)
    decided = np.full((*there.shape, width), np.nan)
    rules = task.rules
    assert isinstance(rules, Classes)
    decided[there] = np.eye(width)[rules.decide(outputs[there])]
    return decided


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
