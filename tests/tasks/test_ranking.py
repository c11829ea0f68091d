import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from fewshot_automl.tasks.ranking import average_precision, roc_auc


@pytest.mark.parametrize("seed", range(6))
def test_weights_count_as_repeated_examples(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 30)
    score = np.round(rng.random(30), 1)
    proba = np.stack([1 - score, score], axis=1)
    weights = rng.multinomial(30, np.full(30, 1 / 30), size=4).astype(float)
    aucs = roc_auc(labels, proba, weights)
    precisions = average_precision(labels, proba, weights)
    for draw, auc, precision in zip(weights, aucs, precisions, strict=True):
        rows = np.repeat(np.arange(30), draw.astype(int))
        assert auc == pytest.approx(roc_auc_score(labels[rows], score[rows]))
        assert precision == pytest.approx(
            average_precision_score(labels[rows], score[rows])
        )


@pytest.mark.parametrize("curve", [roc_auc, average_precision])
def test_draws_with_one_class_are_undefined(curve):
    proba = np.array([[0.6, 0.4], [0.5, 0.5]])
    weights = np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    values = curve(np.array([0, 1]), proba, weights)
    assert np.isnan(values).tolist() == [False, True, True, True]
