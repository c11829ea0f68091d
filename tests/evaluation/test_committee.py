import warnings

import numpy as np
import pytest

from fewshot_automl.evaluation import committee as module
from fewshot_automl.evaluation.committee import (
    average,
    choosing_gaps,
    committee_weights,
)
from fewshot_automl.tasks import metric_named


def evidence_of(rights, examples=60, seed=0):
    """Return evidence of models that are sure of the truth so often, else of less."""
    rng = np.random.default_rng(seed)
    is_right = rng.random((len(rights), examples)) < np.array(rights)[:, None]
    return np.log(np.where(is_right, 0.9, 0.1))


@pytest.mark.parametrize("most", [1, 2, 4, 9])
def test_weights_are_convex_and_few_in_every_draw(most):
    evidence = evidence_of([0.5, 0.6, 0.6, 0.7])
    counts = np.random.default_rng(1).multinomial(60, np.full(60, 1 / 60), size=7)
    found = committee_weights(evidence, "abcd", most=most, counts=counts.astype(float))
    assert found.shape == (7, 4)
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert ((found > 0).sum(axis=1) == min(most, 4)).all()
    one = committee_weights(
        evidence, "abcd", most=most, counts=counts[3:4].astype(float)
    )
    np.testing.assert_allclose(found[3], one[0])


def test_copies_have_equal_say_and_near_copies_one_vote():
    evidence = np.tile(evidence_of([0.7]), (3, 1))
    np.testing.assert_allclose(committee_weights(evidence, "abc", most=3), 1 / 3)
    found = committee_weights(evidence, "aab", most=3)
    np.testing.assert_allclose(found, [[0.5, 0.0, 0.5]])


def test_a_far_better_model_decides_alone_once_examples_show_it():
    few, many = (
        committee_weights(evidence_of([0.95, 0.3], n), "ab", most=2)[0, 0]
        for n in (4, 1000)
    )
    assert 0.5 < few < many
    assert many > 0.9


def test_models_that_know_different_things_share():
    rows = np.arange(200)
    evidence = np.log([np.where(rows < 150, 0.9, 0.1), np.where(rows < 150, 0.1, 0.9)])
    found = committee_weights(evidence, "ab", most=2)[0]
    assert 0.7 < found[0] < 0.8


@pytest.mark.parametrize("missing", [range(30, 60), range(30)])
def test_examples_that_were_not_predicted_change_little(missing):
    """On the rows that both know, the first model is the better one."""
    full = evidence_of([0.8, 0.6, 0.5])
    partly = full.copy()
    partly[0, list(missing)] = np.nan
    partly[:, 0] = np.nan  # an example that nobody predicted
    with warnings.catch_warnings(action="error"):
        found = committee_weights(partly, "abc", most=3)[0]
    assert found.argmax() == 0
    np.testing.assert_allclose(
        found, committee_weights(full, "abc", most=3)[0], atol=0.2
    )


def test_a_model_is_compared_with_its_kind_on_what_both_predicted():
    """The second was asked the easy examples only, and is the worse there."""
    evidence = np.log([[0.9, 0.9, 0.3, 0.3], [0.8, 0.8, np.nan, np.nan]])
    others = np.log([[0.85, 0.85, 0.35, 0.35]])
    found = committee_weights(np.concatenate([evidence, others]), "aab", most=2)[0]
    assert found[0] > 0
    assert found[1] == 0


def test_an_average_needs_the_outputs_of_all():
    outputs = np.array([[[[1.0, 0.0], [1.0, 0.0]]], [[[0.0, 1.0], [np.nan, np.nan]]]])
    found = average(outputs, np.array([0.75, 0.25]))
    np.testing.assert_allclose(found, [[[0.75, 0.25], [np.nan, np.nan]]])


def gap_of(seed, most, models=12, examples=40):
    """Return the mean gap of a choice among models that differ by luck alone."""
    rng = np.random.default_rng(seed)
    labels = np.arange(examples) % 2
    right = rng.random((models, examples)) < 0.7
    true = np.where(right, rng.uniform(0.55, 0.95, right.shape), 0.3)
    proba = np.stack([1 - true, true], axis=-1)
    proba = np.where(labels[None, :, None] == 1, proba, proba[..., ::-1])
    evidence, metric = np.log(true), metric_named("accuracy")
    ours = committee_weights(evidence, range(models), most=most)[0]
    gaps = choosing_gaps(
        labels,
        lambda at: proba[at],
        metric,
        evidence,
        range(models),
        most=most,
        seed=seed,
    )
    fresh = rng.random((models, 4000)) < 0.7
    new = np.where(fresh, rng.uniform(0.55, 0.95, fresh.shape), 0.3)
    raw = metric.score(labels, np.tensordot(ours, proba, axes=1))
    return raw - np.mean(np.tensordot(ours, new, axes=1) > 0.5), float(gaps.mean())


@pytest.mark.parametrize("most", [1, 4])
def test_the_gap_takes_off_what_choosing_among_equals_gains_by_luck(most, monkeypatch):
    monkeypatch.setattr(module, "MOST_DRAWS", 40)
    luck, gap = np.mean([gap_of(seed, most) for seed in range(5)], axis=0)
    assert 0.02 < luck < gap < luck + 0.06  # draws hold fewer examples
