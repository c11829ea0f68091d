import numpy as np
import pytest

from fewshot_automl.errors import ShapeError
from fewshot_automl.evaluation.resampling import (
    bootstrap_weights,
    pooled_score,
    scorer,
)
from fewshot_automl.tasks.class_metrics import CLASS_METRICS

METRICS = CLASS_METRICS.values()
ACCURACY, AUC = CLASS_METRICS["accuracy"], CLASS_METRICS["roc_auc"]


def case(seed=0, n=25, classes=3, models=4, repeats=None):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    shape = (n,) if repeats is None else (repeats, n)
    noise = [rng.dirichlet(np.full(classes, 0.4), shape) for _ in range(models)]
    return labels, [0.6 * p + 0.4 * np.eye(classes)[labels] for p in noise]


@pytest.mark.parametrize("metric", METRICS, ids=CLASS_METRICS)
@pytest.mark.parametrize("classes", [2, 4])
def test_weights_count_as_repeated_examples(metric, classes):
    labels, probas = case(classes=classes)
    weights = bootstrap_weights(25, 6, np.random.default_rng(1))
    table = scorer(metric, labels, probas)(weights)
    assert table.shape == (6, 4)
    for draw, row in zip(weights, table, strict=True):
        rows = np.repeat(np.arange(25), draw.astype(int))
        for proba, value in zip(probas, row, strict=True):
            assert value == pytest.approx(metric.score(labels[rows], proba[rows]))


@pytest.mark.parametrize("metric", METRICS, ids=CLASS_METRICS)
def test_unpredicted_examples_are_left_out(metric):
    labels, probas = case()
    part = probas[0].copy()
    part[::3] = np.nan
    there = ~np.isnan(part).any(axis=1)
    assert pooled_score(metric, labels, part) == pytest.approx(
        metric.score(labels[there], part[there])
    )
    stacked = np.stack([part, np.full_like(part, np.nan)])
    assert pooled_score(metric, labels, stacked) == pytest.approx(
        pooled_score(metric, labels, part)
    )


@pytest.mark.parametrize("metric", METRICS, ids=CLASS_METRICS)
def test_equal_repeats_are_worth_one(metric):
    labels, probas = case()
    stacked = np.stack([probas[0]] * 3)
    once = np.ones((1, 25))
    table = scorer(metric, labels, [stacked, probas[0]])(once)
    assert table[0, 0] == pytest.approx(table[0, 1])


def test_repeats_are_averaged():
    labels, (stack,) = case(models=1, repeats=3)
    for metric in (ACCURACY, AUC):
        single = [metric.score(labels, proba) for proba in stack]
        assert pooled_score(metric, labels, stack) == pytest.approx(np.mean(single))


def test_many_classes_are_taken_in_steps(monkeypatch):
    labels, probas = case(classes=5)
    weights = bootstrap_weights(25, 11, np.random.default_rng(1))
    metric = CLASS_METRICS["macro_f1"]
    whole = scorer(metric, labels, probas)(weights)
    monkeypatch.setattr("fewshot_automl.evaluation.resampling._NUMBERS_AT_ONCE", 75)
    np.testing.assert_allclose(scorer(metric, labels, probas)(weights), whole)


def test_what_does_not_fit_is_refused():
    labels, probas = case()
    with pytest.raises(ShapeError, match="one row for each of the 24"):
        scorer(ACCURACY, labels[:24], probas)
    with pytest.raises(ShapeError, match="NaN only"):
        scorer(ACCURACY, labels, [np.full((25, 3), np.nan)])
    with pytest.raises(ShapeError, match="sum to 1"):
        scorer(ACCURACY, labels, [probas[0] * 2])
