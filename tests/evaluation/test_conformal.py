import numpy as np
import pytest

from fewshot_automl.errors import UserError
from fewshot_automl.evaluation.conformal import class_sets, fit_sets


def drawn(examples, rng):
    labels = rng.integers(0, 3, examples)
    logits = rng.normal(size=(examples, 3))
    logits[np.arange(examples), labels] += 1.5
    proba = np.exp(logits)
    return labels, proba / proba.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("alpha", [0.1, 0.2])
def test_sets_hold_the_truth_as_often_as_promised(alpha, by_class):
    rng, held, sizes = np.random.default_rng(0), [], []
    for _ in range(30):
        labels, proba = drawn(60, rng)
        new, outputs = drawn(300, rng)
        sets = class_sets(
            fit_sets(labels, proba[None]), outputs, alpha, by_class=by_class
        )
        held.append(sets[np.arange(300), new].mean())
        sizes.append(sets.sum(axis=1).mean())
    assert 1 - alpha - 0.01 < np.mean(held) < 1 - alpha + 0.05
    assert np.mean(sizes) < 2


def test_what_is_not_known_is_not_ruled_out():
    labels, proba = drawn(30, np.random.default_rng(1))
    proba[:3] = np.nan
    fitted = fit_sets(labels, proba[None])
    assert len(fitted["scores"]) == 27
    assert class_sets(fitted, np.full((1, 3), np.nan), 0.1).all()
    rare = fit_sets(np.zeros(30, dtype=int), proba[None])
    assert class_sets(rare, proba[5:], 0.1, by_class=True)[:, 1:].all()
    with pytest.raises(UserError, match="alpha"):
        class_sets(fitted, proba, 1.5)
