import math
from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import binomtest

from fewshot_automl.errors import ShapeError
from fewshot_automl.evaluation.intervals import (
    correct_for_selection,
    expected_score,
    indistinguishable,
    standard_error,
    wilson_interval,
)
from fewshot_automl.evaluation.resampling import bootstrap_weights, scorer
from fewshot_automl.tasks.class_metrics import CLASS_METRICS

NORMAL = NormalDist()
ACCURACY = CLASS_METRICS["accuracy"]


def right_and_wrong(right, n):
    labels = np.arange(n) % 2
    answers = np.where(np.arange(n) < right, labels, 1 - labels)
    return labels, 0.1 + 0.8 * np.eye(2)[answers]


@pytest.mark.parametrize(("right", "n"), [(0, 5), (3, 16), (16, 16), (400, 500)])
def test_wilson_agrees_with_scipy(right, n):
    expected = binomtest(right, n).proportion_ci(0.95, method="wilson")
    found = wilson_interval(right / n, n)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_standard_error_of_accuracy_is_binomial():
    error = standard_error(ACCURACY, *right_and_wrong(300, 400))
    assert error == pytest.approx(np.sqrt(0.75 * 0.25 / 400), rel=0.01)


@pytest.mark.parametrize(
    "name", [n for n in CLASS_METRICS if n not in ("ece", "brier")]
)
def test_the_standard_error_shrinks_with_the_root_of_n(name):
    few = standard_error(CLASS_METRICS[name], *right_and_wrong(75, 100))
    many = standard_error(CLASS_METRICS[name], *right_and_wrong(1200, 1600))
    assert few / many == pytest.approx(4, rel=0.2)


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "roc_auc", "mcc"])
def test_perfect_scores_are_not_certain(name):
    errors = [
        standard_error(CLASS_METRICS[name], *right_and_wrong(n, n))
        for n in (16, 64, 512)
    ]
    assert errors[0] > errors[1] > errors[2] > 0
    assert 0.04 < errors[0] < 0.15


def as_proba(right, labels):
    """Return confident predictions of two classes, right where `right` is."""
    return np.where(np.eye(2)[labels] == right[..., None], 0.9, 0.1)


def study(rng, n, models, *, spread=0.2, base=0.75, repeats=1):
    """Return labels, predictions and true accuracies of a simulated study.

    An example's difficulty is shared by all models (correlation 0.6). Every fold of
    every model has its own luck in training, and so has the model that is deployed.
    """
    luck = 0.6 / math.sqrt(n)
    skill = NORMAL.inv_cdf(base) + spread * rng.normal(size=models)
    hardness = math.sqrt(0.6) * rng.normal(size=n)
    probas = []
    labels = np.arange(n) % 2
    for index in range(models):
        rows = []
        for _ in range(repeats):
            fold = rng.permutation(n) % 5
            strength = skill[index] + luck * rng.normal(size=5)[fold]
            right = strength > hardness + math.sqrt(0.4) * rng.normal(size=n)
            rows.append(as_proba(right, labels))
        probas.append(np.stack(rows))
    deployed = skill + luck * rng.normal(size=models)
    return labels, probas, np.array([NORMAL.cdf(value) for value in deployed])


def corrected(labels, probas, metric, **more):
    """Return the best of some models, and what is told of it."""
    rng = np.random.default_rng(0)
    score, draws = (
        scorer(metric, labels, probas),
        bootstrap_weights(len(labels), 100, rng),
    )
    best = int(score(np.ones((1, len(labels)))).argmax())
    picks = np.nan_to_num(score(draws), nan=-np.inf).argmax(axis=1)
    held_out = score((draws == 0).astype(float))
    gaps = held_out[:, best] - held_out[np.arange(len(draws)), picks]
    return best, correct_for_selection(labels, probas[best], metric, gaps, **more)


@pytest.mark.parametrize(
    ("n", "repeats", "widest"), [(16, 5, 0.52), (48, 3, 0.33), (512, 1, 0.11)]
)
@pytest.mark.parametrize(("models", "base"), [(1, 0.6), (30, 0.9)])
def test_intervals_cover_the_truth_and_are_not_absurd(n, repeats, widest, models, base):
    rng = np.random.default_rng([n, models])
    studies = 40
    covered, widths, bias, raw_bias = [], [], [], []
    for _ in range(studies):
        labels, probas, truth = study(rng, n, models, base=base, repeats=repeats)
        best, found = corrected(labels, probas, ACCURACY)
        true = truth[best]
        covered.append(found.low <= true <= found.high)
        widths.append(found.high - found.low)
        bias.append(found.score - true)
        raw_bias.append(found.raw_score - true)
    assert np.mean(covered) >= 0.9
    assert np.mean(widths) < widest
    noise = 3 * np.std(bias) / math.sqrt(studies)
    assert -0.03 - noise < np.mean(bias) < 0.015 + noise
    assert np.mean(bias) <= np.mean(raw_bias)


@pytest.mark.parametrize("name", CLASS_METRICS)
def test_one_model_alone_keeps_its_score(name):
    labels, probas, _ = study(np.random.default_rng(1), 40, 1)
    _, found = corrected(labels, probas, CLASS_METRICS[name])
    assert found.score == found.raw_score
    assert found.raw_score == pytest.approx(
        CLASS_METRICS[name].score(labels, probas[0][0])
    )
    assert found.low < found.score <= found.high


@pytest.mark.parametrize("name", CLASS_METRICS)
def test_every_objective_can_be_corrected(name):
    labels, probas, _ = study(np.random.default_rng(2), 40, 8)
    _, found = corrected(labels, probas, CLASS_METRICS[name])
    low, high = CLASS_METRICS[name].limits
    assert low <= found.low <= found.score <= found.raw_score <= found.high <= high


def test_perfect_predictions_do_not_give_certainty():
    labels = np.arange(16) % 2
    sure = np.eye(2)[labels]
    for name in CLASS_METRICS:
        _, found = corrected(labels, [sure, sure], CLASS_METRICS[name])
        assert found.score == found.raw_score
    _, found = corrected(labels, [sure, sure], ACCURACY)
    assert 0.6 < found.low < 0.9
    assert found.high == 1.0


def test_more_examples_than_the_folds_had_may_only_raise_the_upper_end():
    labels, probas, _ = study(np.random.default_rng(1), 40, 3)
    plain, more = (
        corrected(labels, probas, ACCURACY, trained_share=share)[1]
        for share in (1.0, 0.25)
    )
    assert (more.low, more.score) == (plain.low, plain.score)
    assert 1 - more.high == pytest.approx((1 - plain.high) / 2)


@pytest.mark.parametrize("name", ["accuracy", "log_loss"])
def test_more_examples_add_to_skill_and_to_nothing_else(name):
    metric = CLASS_METRICS[name]
    told = [expected_score(metric, s, 0.75, -0.7) for s in (-0.8, -0.7, -0.3)]
    assert told[:2] == pytest.approx([-0.8, -0.7])
    assert -0.3 < told[2] < metric.limits[1]
    assert expected_score(metric, -0.3, 1.0, -0.7) == pytest.approx(-0.3)
    best = metric.limits[1]
    assert best - expected_score(metric, -0.3, 0.25) == pytest.approx((best + 0.3) / 2)


def test_gaps_are_taken_off():
    labels = np.arange(20) % 2
    proba = np.eye(2)[np.where(np.arange(20) < 16, labels, 1 - labels)]
    alone, found = (
        correct_for_selection(labels, proba, ACCURACY, np.array(gaps))
        for gaps in ([0.0], [0.1, 0.3, np.nan])
    )
    assert (alone.score, alone.raw_score) == (0.8, 0.8)
    assert found.score == pytest.approx(0.6)
    assert found.low < alone.low
    assert found.high == alone.high


def test_the_same_model_cannot_be_told_apart_and_a_worse_one_can():
    labels = np.arange(200) % 2
    good = as_proba(np.arange(200) < 180, labels)
    near = as_proba(np.arange(200) >= 22, labels)
    poor = as_proba(np.arange(200) < 130, labels)
    for name in ("accuracy", "macro_f1", "log_loss", "roc_auc"):
        held = indistinguishable(
            labels, [good, near, poor, good], CLASS_METRICS[name], winner=0
        )
        assert held.tolist() == [True, True, False, True]


def test_models_are_compared_on_the_examples_that_both_predicted():
    """The other predicted the hard half alone, and is no worse there."""
    labels, rows = np.arange(200) % 2, np.arange(200)
    pick = as_proba((rows < 100) | (rows % 4 < 2), labels)
    partly = as_proba(rows % 4 > 1, labels)
    partly[:100] = np.nan
    for name in ("accuracy", "macro_f1", "roc_auc"):
        outputs = [pick, partly, pick]
        assert indistinguishable(labels, outputs, CLASS_METRICS[name], winner=0).all()
        poor = np.where(rows[:, None] < 100, np.nan, as_proba(rows < 0, labels))
        outputs = [pick, partly, poor]
        found = indistinguishable(labels, outputs, CLASS_METRICS[name], winner=0)
        assert found.tolist() == [True, True, False]


def test_a_metric_that_is_undefined_for_the_pick_is_refused():
    _, probas, _ = study(np.random.default_rng(5), 20, 2)
    with pytest.raises(ShapeError, match="roc_auc must be defined"):
        corrected(np.zeros(20, dtype=int), probas, CLASS_METRICS["roc_auc"])


def test_a_single_fold_has_an_error():
    labels, proba = right_and_wrong(30, 40)
    proba[8:] = np.nan
    for name in ("accuracy", "balanced_accuracy"):
        assert 0 < standard_error(CLASS_METRICS[name], labels, proba) < 0.2
