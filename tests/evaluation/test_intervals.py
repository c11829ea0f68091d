import numpy as np
import pytest
from scipy.stats import binomtest

from fewshot_automl.evaluation.intervals import (
    standard_error,
    wilson_interval,
)
from fewshot_automl.tasks.class_metrics import CLASS_METRICS


def right_and_wrong(right, n):
    labels = np.arange(n) % 2
    answers = np.where(np.arange(n) < right, labels, 1 - labels)
    return labels, 0.1 + 0.8 * np.eye(2)[answers]


@pytest.mark.parametrize(("right", "n"), [(0, 5), (3, 16), (16, 16), (400, 500)])
def test_wilson_agrees_with_scipy(right, n):
    expected = binomtest(right, n).proportion_ci(0.9, method="wilson")
    found = wilson_interval(right / n, n, level=0.9)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_standard_error_of_accuracy_is_binomial():
    error = standard_error("accuracy", *right_and_wrong(300, 400))
    assert error == pytest.approx(np.sqrt(0.75 * 0.25 / 400), rel=0.01)


@pytest.mark.parametrize(
    "name", [n for n in CLASS_METRICS if n not in ("ece", "brier")]
)
def test_the_standard_error_shrinks_with_the_root_of_n(name):
    few = standard_error(name, *right_and_wrong(75, 100))
    many = standard_error(name, *right_and_wrong(1200, 1600))
    assert few / many == pytest.approx(4, rel=0.2)


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "roc_auc", "mcc"])
def test_perfect_scores_are_not_certain(name):
    errors = [standard_error(name, *right_and_wrong(n, n)) for n in (16, 64, 512)]
    assert errors[0] > errors[1] > errors[2] > 0
    assert 0.04 < errors[0] < 0.15


def test_a_single_fold_has_an_error():
    labels, proba = right_and_wrong(30, 40)
    proba[8:] = np.nan
    assert 0 < standard_error("accuracy", labels, proba) < 0.2
    assert 0 < standard_error("balanced_accuracy", labels, proba) < 0.2
