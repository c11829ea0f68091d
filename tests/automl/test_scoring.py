from dataclasses import replace

import numpy as np
import pytest

from fewshot_automl.automl.scoring import (
    Tried,
    committee,
    cross_calibrated,
    honest_score,
)
from fewshot_automl.evaluation.folds import choose_folds
from fewshot_automl.evaluation.resampling import pooled_score
from fewshot_automl.outcome import Outcome
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
    configs = [
        Config.of({"method": "probe", "backbone": f"b{i}"})
        for i, _ in enumerate(outputs)
    ]
    history = [
        (c, Outcome(status="done", mean=pooled_score(task.measured, LABELS, x)))
        for c, x in zip(configs, outputs, strict=True)
    ]
    problem = problem_of(task, LABELS)
    return Tried(problem=problem, history=history, outputs=dict(enumerate(outputs)))


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "log_loss", "roc_auc"])
def test_the_score_is_that_of_the_model_corrected_for_choosing_it(metric):
    rng = np.random.default_rng(0)
    outputs = [np.stack([sure(rng, 0.6) for _ in range(2)]) for _ in range(8)]
    tried = tried_with(outputs, metric)
    model = tried.together(committee(tried, range(8), 3))
    score = honest_score(tried, range(8), 3, model, tried.problem.task, seed=0)
    measured = tried.problem.task.measured
    raw = measured.orient(pooled_score(measured, LABELS, model))
    assert score.raw == pytest.approx(raw)
    assert measured.orient(score.corrected) < measured.orient(score.raw)
    for told in (score.corrected, score.expected):
        assert score.low <= told <= score.high
    assert measured.orient(score.expected) >= measured.orient(score.corrected)


def test_one_trial_alone_keeps_its_score():
    tried = tried_with([sure(np.random.default_rng(1), 0.6)[None]])
    score = honest_score(tried, [0], 3, tried.outputs[0], tried.problem.task, seed=0)
    assert score.corrected == score.raw


def test_trials_of_few_folds_join_and_leave_the_score_whole():
    """The first predicted one fold of three only; there it is the best."""
    rng = np.random.default_rng(3)
    partly = sure(rng, 1.0)[None]
    partly[:, 16:] = np.nan
    whole = [np.stack([sure(rng, 0.6) for _ in range(2)]) for _ in range(2)]
    tried = tried_with([partly, *whole])
    weights = committee(tried, range(3), 3)
    assert next(iter(weights)) == 0
    assert sum(weights.values()) == pytest.approx(1)
    together = tried.together(weights)
    np.testing.assert_array_equal(np.isnan(together), np.isnan(partly))
    assert (
        honest_score(tried, range(3), 3, together, tried.problem.task, seed=0).examples
        == 16
    )
    alone = cross_calibrated(tried.problem, partly)
    np.testing.assert_array_equal(np.isnan(alone), np.isnan(partly))
    assert 0 <= tried.measures({0: 1.0})["worst_recall"] <= 1


def test_calibration_of_a_fold_never_sees_its_own_labels():
    rng = np.random.default_rng(2)
    task = Task(modality="text", names=("a", "b"))
    labels = np.arange(40) % 2
    problem = problem_of(task, labels)
    first = problem.folds.first[0].validation
    others = np.setdiff1d(np.arange(40), first)
    outputs = rng.dirichlet([1, 1], size=40)[None]
    flipped = labels.copy()
    flipped[first] = 1 - flipped[first]
    before, after = (
        cross_calibrated(replace(problem, targets=x), outputs)[0]
        for x in (labels, flipped)
    )
    np.testing.assert_array_equal(before[first], after[first])
    assert not np.allclose(before[others], after[others])
    np.testing.assert_array_equal(before.argmax(-1), outputs[0].argmax(-1))


def test_members_leave_until_together_they_hold():
    rng = np.random.default_rng(4)
    tried = tried_with([sure(rng, x)[None] for x in (0.5, 0.7, 0.9)])
    weights = committee(tried, range(3), 3)
    assert list(weights) == [2, 1, 0]
    assert list(committee(tried, range(3), 2)) == [2, 1]
    held = committee(tried, range(3), 3, lambda weights: len(weights) < 3)
    assert held == pytest.approx(committee(tried, (2, 1), 2))
    assert committee(tried, range(3), 3, lambda weights: False) == {2: 1.0}


def test_without_probabilities_the_leader_is_the_model(monkeypatch):
    tried = tried_with([sure(np.random.default_rng(5), x)[None] for x in (0.5, 0.9)])
    unknown = lambda kind, targets, outputs: np.full(len(outputs), np.nan)  # noqa: E731
    monkeypatch.setattr(type(TASK.rules), "log_likelihood", unknown)
    assert committee(tried, (0, 1), 3) == {0: 1.0}
    assert (
        honest_score(tried, (0, 1), 3, tried.outputs[0], tried.problem.task, seed=0).raw
        > 0
    )


def test_a_frozen_backbone_is_counted_once():
    names = [("probe", "a"), ("prototype", "a"), ("probe", "b"), ("lora", "a")]
    each = {"latency_ms": 10.0, "parameters": 100.0}
    history = [
        (
            Config.of({"method": method, "backbone": name}),
            Outcome(status="done", mean=0.5, measures=each),
        )
        for method, name in names
    ]
    outputs = {i: sure(np.random.default_rng(i), 0.7)[None] for i in range(4)}
    tried = Tried(problem=problem_of(TASK, LABELS), history=history, outputs=outputs)
    for numbers, times in (((0, 1), 1), ((0, 2), 2), ((0, 3), 2), (range(4), 3)):
        found = tried.measures({i: 1 / len(numbers) for i in numbers})
        assert found["latency_ms"] == 10 * times


@pytest.mark.parametrize(
    ("right", "verdict"), [(0.95, "better"), (0.45, "unclear"), (0.0, "not better")]
)
def test_a_model_stands_beside_a_constant_answer(right, verdict):
    wrong = np.arange(48) >= 48 * right
    outputs = (np.eye(3)[np.where(wrong, (LABELS + 1) % 3, LABELS)] * 0.9 + 0.1 / 3)[
        None
    ]
    tried = tried_with([outputs])
    score = honest_score(tried, [0], 1, outputs, tried.problem.task, seed=0)
    assert score.majority == pytest.approx(1 / 3)
    assert score.against_majority == verdict
    assert bool(score.caution) == (verdict != "better")
