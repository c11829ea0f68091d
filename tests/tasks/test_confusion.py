import numpy as np
import pytest

from fewshot_automl.tasks.confusion import (
    balanced_accuracy,
    confusion,
    kappa,
    macro_f1,
    matthews_correlation,
    worst_class_recall,
)

SCORES = [
    balanced_accuracy,
    macro_f1,
    matthews_correlation,
    worst_class_recall,
    lambda counts: kappa(counts, power=0),
    lambda counts: kappa(counts, power=2),
]


@pytest.mark.parametrize("function", SCORES)
def test_scores_do_not_depend_on_the_unit_of_counts(function):
    counts = np.random.default_rng(0).integers(0, 9, (4, 3, 3)).astype(float)
    assert function(counts / 7) == pytest.approx(function(counts))
    assert function(counts)[2] == pytest.approx(function(counts[[2]])[0])


@pytest.mark.parametrize("function", SCORES)
def test_an_empty_matrix_is_undefined_and_warns_nobody(function):
    counts = np.zeros((2, 3, 3))
    counts[1, 0, 0] = 3.0
    values = function(counts)
    assert np.isnan(values[0])
    assert np.isfinite(values[1])


@pytest.mark.parametrize("function", SCORES)
def test_absent_classes_change_nothing(function):
    counts = np.array([[[3.0, 1.0], [2.0, 5.0]]])
    wide = np.zeros((1, 4, 4))
    wide[:, :2, :2] = counts
    assert function(wide) == pytest.approx(function(counts))


def test_confusion_counts_labels_against_predictions():
    proba = np.array([[0.2, 0.8, 0.0], [0.2, 0.8, 0.0], [0.9, 0.1, 0.0]])
    counts = confusion(np.array([1, 0, 0]), proba)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
