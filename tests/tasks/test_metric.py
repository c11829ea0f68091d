import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from fewshot_automl.errors import DataError, ShapeError, UnknownNameError
from fewshot_automl.tasks import Sums, metric_named
from fewshot_automl.tasks.class_metrics import CLASS_METRICS


def score_of(name, labels, proba):
    return metric_named(name).score(labels, proba)


def random_case(seed, classes, n, decimals=2):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    labels[:classes] = np.arange(classes)
    logits = rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[labels]
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    proba = np.round(proba, decimals) + 1e-9
    return labels, proba / proba.sum(axis=1, keepdims=True)


def sklearn_auc(y, p):
    if p.shape[1] == 2:
        return metrics.roc_auc_score(y, p[:, 1])
    return metrics.roc_auc_score(y, p, multi_class="ovr", average="macro")


def sklearn_ap(y, p):
    if p.shape[1] == 2:
        return metrics.average_precision_score(y, p[:, 1])
    return np.mean(
        [metrics.average_precision_score(y == c, p[:, c]) for c in range(p.shape[1])]
    )


REFERENCE = {
    "accuracy": lambda y, p: metrics.accuracy_score(y, p.argmax(1)),
    "balanced_accuracy": lambda y, p: metrics.balanced_accuracy_score(y, p.argmax(1)),
    "macro_f1": lambda y, p: metrics.f1_score(y, p.argmax(1), average="macro"),
    "mcc": lambda y, p: metrics.matthews_corrcoef(y, p.argmax(1)),
    "cohen_kappa": lambda y, p: metrics.cohen_kappa_score(y, p.argmax(1)),
    "quadratic_kappa": lambda y, p: metrics.cohen_kappa_score(
        y, p.argmax(1), weights="quadratic"
    ),
    "worst_class_recall": lambda y, p: metrics.recall_score(
        y, p.argmax(1), average=None
    ).min(),
    "roc_auc": sklearn_auc,
    "average_precision": sklearn_ap,
    "log_loss": lambda y, p: metrics.log_loss(y, p, labels=range(p.shape[1])),
    "brier": lambda y, p: metrics.brier_score_loss(
        y, p[:, 1] if p.shape[1] == 2 else p, labels=range(p.shape[1])
    ),
}


@pytest.mark.parametrize("name", REFERENCE)
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_objectives_agree_with_sklearn(name, classes):
    for seed in range(8):
        labels, proba = random_case(seed, classes, classes + 5 + 10 * seed)
        expected = REFERENCE[name](labels, proba)
        assert metric_named(name).value(labels, proba) == pytest.approx(expected)
        sign = -1 if name in ("log_loss", "brier") else 1
        assert score_of(name, labels, proba) == pytest.approx(sign * expected)


@pytest.mark.parametrize("name", CLASS_METRICS)
def test_perfect_predictions_are_best(name):
    labels = np.array([0, 1, 2, 2, 1, 0])
    wanted = CLASS_METRICS[name]
    assert wanted.value(labels, np.eye(3)[labels]) == pytest.approx(wanted.best)
    low, high = wanted.limits
    assert low < high == pytest.approx(score_of(name, labels, np.eye(3)[labels]))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999), n=st.integers(1, 30), classes=st.integers(2, 5))
def test_scores_are_finite_and_inside_their_limits_or_clear_errors(seed, n, classes):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    proba = rng.dirichlet(np.full(classes, 0.1), n)
    for name, wanted in CLASS_METRICS.items():
        low, high = wanted.limits
        try:
            assert low - 1e-12 <= score_of(name, labels, proba) <= high + 1e-12
        except DataError as error:
            assert "targets that differ" in str(error)  # noqa: PT017
            assert len(np.unique(labels)) == 1
            assert wanted.name in ("roc_auc", "average_precision")


def test_one_class_only_is_an_error_for_rankings():
    with pytest.raises(DataError, match="roc_auc must have targets that differ"):
        score_of("roc_auc", np.array([0, 0]), np.array([[0.2, 0.8], [0.3, 0.7]]))


@pytest.mark.parametrize(
    ("labels", "proba", "message"),
    [
        ([0, 1], [[1.0, 0.0]], "one row for each target"),
        ([0, 2], [[1.0, 0.0], [0.0, 1.0]], "0 .. 1, got 0 .. 2"),
        ([0, -1], [[1.0, 0.0], [0.0, 1.0]], "unlabelled"),
        ([0, 1], [[1.0, 0.5], [0.0, 1.0]], "sum to 1"),
        ([0, 1], [[np.nan, 0.5], [0.0, 1.0]], "sum to 1"),
        ([0, 1], [[1.5, -0.5], [0.0, 1.0]], "0 or greater"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(labels, proba, message):
    with pytest.raises(ShapeError, match=message):
        metric_named("accuracy").score(np.array(labels), np.array(proba))


def test_names_are_looked_up():
    with pytest.raises(UnknownNameError, match="Closest: 'accuracy'"):
        metric_named("acuracy")


SUMS = [row.measure for row in CLASS_METRICS.values() if isinstance(row.measure, Sums)]


@pytest.mark.parametrize("sums", SUMS)
def test_scores_of_sums_depend_neither_on_their_unit_nor_on_absent_classes(sums):
    counts = np.random.default_rng(0).integers(1, 9, (4, 3, 3)).astype(float)
    values = sums.value(counts.reshape(4, 9))
    assert sums.value(counts.reshape(4, 9) / 7) == pytest.approx(values)
    wide = np.zeros((4, 5, 5))
    wide[:, :3, :3] = counts
    assert sums.value(wide.reshape(4, 25)) == pytest.approx(values)
    assert np.isnan(sums.value(np.zeros((1, 9)))[0])
