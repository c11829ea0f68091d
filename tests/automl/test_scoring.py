from dataclasses import replace

import numpy as np
import pytest

from fewshot_automl.automl.scoring import (
    Tried,
    cross_calibrated,
    honest_score,
    partners_of,
)
from fewshot_automl.evaluation.folds import choose_folds
from fewshot_automl.evaluation.resampling import pooled_score
from fewshot_automl.outcome import REFINEMENT, Outcome
from fewshot_automl.space import Config
from fewshot_automl.tasks import Task
from fewshot_automl.trial import Problem

LABELS = np.arange(48) % 3
TASK = Task(modality="text", names=("a", "b", "c"))


def problem_of(task, targets):
    return Problem(
        task=task,
        inputs=tuple(map(str, range(len(targets)))),
        targets=targets,
        folds=choose_folds(task.rules.strata(targets), seed=0),
    )


def sure(rng, right):
    """Return outputs that name the true class with probability `right`."""
    named = np.where(rng.random(len(LABELS)) < right, LABELS, (LABELS + 1) % 3)
    return np.eye(3)[named] * 0.9 + 0.1 / 3


def tried_with(outputs, metric="accuracy"):
    task = replace(TASK, metric=metric)
    configs = [Config.of({"number": number}) for number in range(len(outputs))]
    history = [
        (c, Outcome(status="done", mean=pooled_score(task.measured, LABELS, x)))
        for c, x in zip(configs, outputs, strict=True)
    ]
    problem = problem_of(task, LABELS)
    return Tried(problem=problem, history=history, outputs=dict(enumerate(outputs)))


def scores_of(tried):
    return {i: outcome.mean for i, (_, outcome) in enumerate(tried.history)}


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "log_loss"])
def test_the_model_is_the_pick_whatever_it_was_picked_for(metric):
    rng = np.random.default_rng(0)
    outputs = [np.stack([sure(rng, x) for _ in range(3)]) for x in (0.5, 0.6, 0.7)]
    tried = tried_with(outputs, metric)
    poor = sure(np.random.default_rng(9), 0.4)[None]
    score = honest_score(tried, scores_of(tried), poor, seed=0)
    measured = tried.problem.task.measured
    raw = measured.orient(pooled_score(measured, LABELS, poor))
    assert score.raw == pytest.approx(raw)
    for told in (score.corrected, score.expected):
        assert score.low <= told <= score.high
    assert measured.orient(score.expected) >= measured.orient(score.corrected)


def test_correction_takes_something_off_the_best_of_equals():
    rng = np.random.default_rng(1)
    tried = tried_with([sure(rng, 0.6)[None] for _ in range(12)])
    scores = scores_of(tried)
    best = max(scores, key=scores.get)
    score = honest_score(tried, scores, tried.outputs[best], seed=0)
    assert score.corrected < score.raw
    assert score.low < 0.6 < score.high


def test_calibration_of_a_fold_never_sees_its_own_labels():
    rng = np.random.default_rng(2)
    task = Task(modality="text", names=("a", "b"))
    labels, folds = np.arange(40) % 2, (np.arange(40) // 10)[None]
    outputs = rng.dirichlet([1, 1], size=40)[None]
    flipped = labels.copy()
    flipped[:10] = 1 - flipped[:10]
    before, after = (
        cross_calibrated(problem_of(task, x), outputs, folds) for x in (labels, flipped)
    )
    np.testing.assert_array_equal(before[0, :10], after[0, :10])
    assert not np.allclose(before[0, 10:], after[0, 10:])
    np.testing.assert_array_equal(before.argmax(-1), outputs.argmax(-1))


def test_partners_are_of_other_kinds_and_keep_the_limits():
    names = ("a", "a", "b", "c", "c")
    losses = (0.5, 0.1, 0.4, 0.2, 0.3)
    history = [
        (
            Config.of({"method": "probe", "backbone": name, "number": number}),
            Outcome(status="done", mean=0.5, measures={REFINEMENT: loss}),
        )
        for number, (name, loss) in enumerate(zip(names, losses, strict=True))
    ]
    tried = Tried(problem=problem_of(TASK, LABELS), history=history, outputs={})
    every = list(range(5))
    assert partners_of(tried, 0, every, most=2) == [3, 2]
    assert partners_of(tried, 0, every, most=1) == [3]
    held = partners_of(tried, 0, every, most=2, holds=lambda numbers: 3 not in numbers)
    assert held == [4, 2]


@pytest.mark.parametrize(
    ("right", "verdict"), [(0.95, "better"), (0.45, "unclear"), (0.0, "not better")]
)
def test_a_model_stands_beside_a_constant_answer(right, verdict):
    wrong = np.arange(48) >= 48 * right
    outputs = (np.eye(3)[np.where(wrong, (LABELS + 1) % 3, LABELS)] * 0.9 + 0.1 / 3)[
        None
    ]
    tried = tried_with([outputs])
    score = honest_score(tried, scores_of(tried), outputs, seed=0)
    assert score.majority == pytest.approx(1 / 3)
    assert score.against_majority == verdict
    assert bool(score.caution) == (verdict != "better")
