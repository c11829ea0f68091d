import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

from fewshot_automl.adaptation.class_heads import STRENGTHS
from fewshot_automl.adaptation.heads import Scaling
from fewshot_automl.adaptation.logistic import fit_softmax_path


def objective(weight, bias, features, labels, strength):
    logits = features @ weight + bias
    losses = logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels]
    return float(losses.mean() + strength / 2 * (weight**2).sum())


def problem(examples, width, classes, seed, scaling="unit"):
    chance = np.random.default_rng(seed)
    labels = np.arange(examples) % classes
    centers = chance.normal(size=(classes, width))
    features = centers[labels] * 0.7 + chance.normal(size=(examples, width))
    features *= chance.uniform(0.1, 3.0, width)  # badly conditioned, as real ones are
    return Scaling.fit(features, scaling).apply(features), labels


@pytest.mark.parametrize("scaling", ["unit", "standard"])
@pytest.mark.parametrize(
    ("examples", "width", "classes"), [(24, 60, 3), (120, 10, 6), (40, 384, 5)]
)
def test_reaches_the_minimum_that_sklearn_finds(examples, width, classes, scaling):
    features, labels = problem(examples, width, classes, seed=examples, scaling=scaling)
    path = fit_softmax_path(features, labels, np.ones(examples), classes, STRENGTHS)
    for strength, found in zip(STRENGTHS, path, strict=True):
        # Its C is per example, our strength per mean.
        model = LogisticRegression(C=1 / (strength * examples), tol=1e-10)
        model.set_params(max_iter=20_000).fit(features, labels)
        best = model.coef_.T, model.intercept_
        ours, theirs = (
            objective(*each, features, labels, strength) for each in (found, best)
        )
        assert ours <= theirs * 1.02 + 2e-4, f"strength {strength}: {ours} > {theirs}"


def test_two_classes_equal_one_logit_of_twice_the_penalty():
    features, labels = problem(30, 8, 2, seed=0)
    strength = 1e-2
    ((weight, _),) = fit_softmax_path(features, labels, np.ones(30), 2, (strength,))
    # softmax weights are +w/2 and -w/2 of the logit's w: |W|^2 = |w|^2 / 2
    model = LogisticRegression(C=2 / (strength * 30), tol=1e-10, max_iter=10_000)
    model.fit(features, labels)
    logit = weight[:, 1] - weight[:, 0]
    np.testing.assert_allclose(logit, model.coef_[0], atol=0.03 * np.abs(logit).max())


def test_example_weights_equal_repeated_examples():
    features, labels = problem(20, 6, 3, seed=1)
    weights = np.random.default_rng(0).integers(1, 4, 20).astype(float)
    ((weighted, _),) = fit_softmax_path(features, labels, weights, 3, (1e-2,))
    times = weights.astype(int)
    many = np.repeat(features, times, axis=0), np.repeat(labels, times)
    ((repeated, _),) = fit_softmax_path(*many, np.ones(times.sum()), 3, (1e-2,))
    scale = np.abs(repeated).max()
    np.testing.assert_allclose(weighted, repeated, atol=2e-2 * scale, rtol=0)


def test_strengths_solved_together_equal_strengths_solved_alone():
    features, labels = problem(30, 20, 4, seed=2)
    together = fit_softmax_path(features, labels, np.ones(30), 4, STRENGTHS)
    for strength, one in zip(STRENGTHS, together, strict=True):
        (alone,) = fit_softmax_path(features, labels, np.ones(30), 4, (strength,))
        first, second = (
            objective(*each, features, labels, strength) for each in (one, alone)
        )
        assert first == pytest.approx(second, rel=2e-2, abs=2e-4)


@pytest.mark.parametrize(
    "features",
    [
        np.zeros((4, 3)),
        np.ones((4, 1)) * 1e-9,
        np.tile(np.array([[1.0, 5.0], [2.0, 5.0]]), (2, 1)),
    ],
    ids=["all zero", "nothing left", "constant column"],
)
def test_degenerate_features_give_finite_answers(features):
    labels = np.array([0, 1, 0, 1])
    for weight, bias in fit_softmax_path(features, labels, np.ones(4), 3, STRENGTHS):
        assert np.isfinite(weight).all()
        assert np.isfinite(bias).all()
        logits = features @ weight + bias
        assert (logits.argmax(axis=1) < 2).all()  # class 2 has no examples
