import numpy as np
import pytest

from fewshot_automl.errors import ShapeError
from fewshot_automl.evaluation.ensembles import (
    blend,
    greedy_ensemble,
    mean_over_repeats,
)
from fewshot_automl.tasks import metric_named
from fewshot_automl.tasks.class_metrics import CLASS_METRICS


def noisy(seed, n=120, models=6, classes=3):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = rng.normal(size=(models, n, classes)) * 1.5 + 1.5 * np.eye(classes)[labels]
    proba = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    return labels, list(proba)


@pytest.mark.parametrize("name", CLASS_METRICS)
def test_an_ensemble_is_never_worse_than_the_best_model(name):
    labels, probas = noisy(0)
    weights = greedy_ensemble(labels, probas, name, rounds=10)
    assert weights.sum() == pytest.approx(1.0)
    assert (weights >= 0).all()
    best = max(metric_named(name).score(labels, proba) for proba in probas)
    assert metric_named(name).score(labels, blend(probas, weights)) >= best - 1e-12


def test_independent_errors_cancel():
    labels, probas = noisy(1)
    weights = greedy_ensemble(labels, probas, "accuracy")
    best = max(metric_named("accuracy").score(labels, proba) for proba in probas)
    assert metric_named("accuracy").score(labels, blend(probas, weights)) > best + 0.05
    assert np.count_nonzero(weights) > 2


def test_equal_scores_are_told_apart_by_log_loss():
    labels = np.array([0, 1] * 8)
    shy = 0.45 + 0.1 * np.eye(2)[labels]
    sure = 0.05 + 0.9 * np.eye(2)[labels]
    assert greedy_ensemble(labels, [shy, sure, shy], "accuracy").tolist() == [0, 1, 0]


def test_repeats_are_averaged_and_gaps_refused():
    labels, probas = noisy(2)
    stack = np.stack(probas[:2])
    stack[1, :50] = np.nan
    mean = mean_over_repeats(stack)
    np.testing.assert_allclose(mean[:50], probas[0][:50])
    np.testing.assert_allclose(mean[50:], (probas[0][50:] + probas[1][50:]) / 2)
    assert greedy_ensemble(labels, [stack], "accuracy").tolist() == [1.0]
    stack[0, 3] = np.nan
    with pytest.raises(ShapeError, match="none for 1 of 120"):
        greedy_ensemble(labels, [stack], "accuracy")
    with pytest.raises(ShapeError, match="at least one model"):
        greedy_ensemble(labels, [], "accuracy")
    with pytest.raises(ShapeError, match="not all 0"):
        blend(probas, np.zeros(6))
