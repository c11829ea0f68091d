from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp

from fewshot_automl.adaptation import class_heads
from fewshot_automl.adaptation.class_heads import (
    BANDWIDTHS,
    PATHS,
    STRENGTHS,
    Labelled,
    class_weights,
    fit_class_head,
    inner_folds,
    lda_path,
    rbf_path,
)
from fewshot_automl.adaptation.heads import (
    KernelHead,
    LinearHead,
    Scaling,
    rbf,
)
from fewshot_automl.space import Config
from fewshot_automl.tasks import Task

KINDS = [kind for kind in PATHS if kind != "mixture"]  # it needs other rows
ONE = [(0.1, 2.0)]  # shrinkage and temperature


def problem(examples=30, width=8, classes=3, seed=0, noise=1.0):
    chance = np.random.default_rng(seed)
    labels = chance.permutation(np.arange(examples) % classes)
    centers = chance.normal(size=(classes, width))
    return centers[labels] + noise * chance.normal(size=(examples, width)), labels


def data(features, labels, classes=3, weights=None):
    width = features.shape[1]
    return Labelled(
        features=features,
        labels=labels,
        weights=np.ones(len(labels)) if weights is None else weights,
        classes=classes,
        scaling=Scaling(
            unit=False,
            center=np.zeros(width, np.float32),
            scale=np.ones(width, np.float32),
        ),
    )


def fitted(features, labels, classes=3, kind="logistic", seed=0, **more):
    task = Task(modality="text", names=tuple("abcdefgh"[:classes]))
    config = Config.of({"head": kind, **more})
    return fit_class_head(features, labels, task, config, seed)


@pytest.mark.parametrize("width", [4, 50])  # fewer and more columns than examples
def test_lda_equals_dense_gaussians(width):
    features, labels = problem(width=width)
    grid, _ = PATHS["lda"]
    heads = lda_path(data(features, labels), grid)
    means = np.stack([features[labels == k].mean(axis=0) for k in range(3)])
    within = features - means[labels]
    covariance = within.T @ within / (30 - 3)
    priors = np.log(np.bincount(labels) / 30)
    for head, (share, temperature) in zip(heads, grid, strict=True):
        sphere = np.trace(covariance) / width * np.eye(width)
        precision = np.linalg.inv((1 - share) * covariance + share * sphere)
        away = features[:, None, :] - means[None]
        logits = priors - 0.5 * np.einsum("nkd,de,nke->nk", away, precision, away)
        logits = logits / temperature
        expected = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
        np.testing.assert_allclose(head.outputs(features), expected, atol=2e-3)


def test_lda_weights_equal_repeated_examples():
    features, labels = problem()
    times = np.where(labels == 0, 3, 1)
    weighted = lda_path(data(features, labels, weights=times.astype(float)), ONE)[0]
    repeated = data(np.repeat(features, times, axis=0), np.repeat(labels, times))
    again = lda_path(repeated, ONE)[0]
    np.testing.assert_allclose(
        weighted.outputs(features), again.outputs(features), atol=1e-4
    )


@pytest.mark.parametrize("noise", [1.0, 1e-3])
def test_lda_never_predicts_a_class_it_has_not_seen(noise):
    features, labels = problem(width=40, noise=noise)
    for head in lda_path(data(features, labels, 5), PATHS["lda"][0]):
        for scale in (1.0, 30.0, -30.0):
            proba = head.outputs(features * scale)
            assert (proba[:, 3:] < 1e-3).all()


def test_rbf_equals_kernel_logistic_regression_by_another_route():
    """Minimise over the dual coefficients directly, with the kernel as the metric."""
    features, labels = problem(examples=18, width=5)
    strength = STRENGTHS[5]
    head = rbf_path(data(features, labels), [(BANDWIDTHS[1], strength)])[0]
    assert isinstance(head, KernelHead)
    distances = ((features[:, None] - features[None]) ** 2).sum(axis=2)
    median = np.median(distances[~np.eye(18, dtype=bool)])
    assert head.gamma == pytest.approx(BANDWIDTHS[1] / median)
    gram = np.exp(-head.gamma * distances)

    def loss(parameters):
        alpha, bias = parameters[:54].reshape(18, 3), parameters[54:]
        logits = gram @ alpha + bias
        fit = (logsumexp(logits, axis=1) - logits[np.arange(18), labels]).mean()
        return fit + strength / 2 * np.einsum("ik,ij,jk->", alpha, gram, alpha)

    best = minimize(loss, np.zeros(57), method="L-BFGS-B", options={"maxiter": 2000})
    ours = np.concatenate([head.coefficients.ravel(), head.bias])
    assert loss(ours) <= best.fun * 1.02 + 1e-4
    alpha, bias = best.x[:54].reshape(18, 3), best.x[54:]
    logits = rbf(features, features, head.gamma) @ alpha + bias
    theirs = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
    np.testing.assert_allclose(head.outputs(features), theirs, atol=0.05)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scaling", ["unit", "standard"])
def test_the_strength_has_the_least_cross_validated_loss(kind, scaling, monkeypatch):
    """Do it again the slow way: each candidate by itself, fold by fold."""
    features, labels = problem(examples=24, noise=2.0)
    tried = []
    grid, path = PATHS[kind]

    def watched(given, places):
        tried.append(places)
        return path(given, places)

    monkeypatch.setitem(class_heads.PATHS, kind, (grid, watched))
    fitted(features, labels, kind=kind, scaling=scaling, seed=3)
    losses = np.zeros(len(grid))
    for held_out in inner_folds(labels, 3):
        rule = Scaling.fit(features[~held_out], scaling)
        inner = data(rule.apply(features[~held_out]), labels[~held_out])
        for at, place in enumerate(grid):
            (head,) = path(replace(inner, scaling=rule), [place])
            proba = head.outputs(features[held_out])
            truth = labels[held_out]
            losses[at] -= np.log(proba[np.arange(len(truth)), truth]).sum()
    (chosen,) = tried[-1]
    assert losses[grid.index(chosen)] <= losses.min() * 1.01 + 1e-3


def test_noise_asks_for_a_stronger_penalty_than_signal():
    def size(noise):
        features, labels = problem(examples=60, width=30, noise=noise)
        head = fitted(features, labels)
        assert isinstance(head, LinearHead)
        return np.linalg.norm(head.weight)

    assert size(20.0) < size(0.3)


@pytest.mark.parametrize("kind", KINDS)
def test_balanced_weights_help_the_rare_class(kind):
    chance = np.random.default_rng(1)
    labels = np.array([0] * 40 + [1] * 6)
    features = chance.normal(size=(46, 6)) + 0.8 * labels[:, None]
    test = chance.normal(size=(200, 6)) + 0.8
    found = {
        rule: fitted(features, labels, 2, kind=kind, class_weights=rule)
        .outputs(test)[:, 1]
        .mean()
        for rule in ("none", "balanced")
    }
    assert found["balanced"] > found["none"] + 0.05


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "labels",
    [[0, 1], [0, 0, 1], [0, 2], [0, 1, 2, 0], [1, 1, 1, 2]],
    ids=str,
)
def test_few_examples_and_absent_classes_work(kind, labels):
    labels = np.array(labels)
    features = np.random.default_rng(0).normal(size=(len(labels), 4))
    features[:, 2] = 1.0  # a constant column
    head = fitted(features.astype(np.float32), labels, 4, kind=kind)
    proba = head.outputs(features)
    assert proba.shape == (len(labels), 4)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert set(proba.argmax(axis=1)) <= set(labels.tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_equal_examples_of_different_classes_work(kind):
    features, labels = np.ones((6, 3)), np.array([0, 1, 2, 0, 1, 2])
    np.testing.assert_allclose(
        fitted(features, labels, kind=kind).outputs(features), 1 / 3, atol=0.02
    )


def test_inner_folds_hold_each_example_out_once_and_spread_classes():
    labels = np.repeat([0, 1, 2], [5, 5, 1])
    folds = inner_folds(labels, seed=0)
    assert len(folds) == 5
    np.testing.assert_array_equal(np.sum(folds, axis=0), 1)
    for held_out in folds:
        assert (np.bincount(labels[held_out], minlength=3)[:2] == 1).all()
    sizes = [int(held_out.sum()) for held_out in inner_folds(np.arange(20) // 2, 0)]
    assert max(sizes) - min(sizes) <= 1


def test_class_weights_are_1_on_average():
    labels = np.array([0, 0, 0, 2])
    weights = class_weights(labels, 3, "balanced")
    assert weights[1] == 0
    assert weights[labels].mean() == pytest.approx(1)
    assert (class_weights(labels, 3, "none") == 1).all()


def test_unlabelled_rows_move_the_classes_of_a_mixture():
    features, labels = problem(examples=406, width=8, classes=2, noise=1.2)
    few, rest = np.arange(6), np.arange(6, 206)
    task = Task(modality="text", names=("a", "b"))
    told = labels[few]
    told[:2] = 0, 1  # both are there
    rows = features[few]
    plain, moved = (
        fit_class_head(rows, told, task, Config.of({"head": kind}), 0, **more)
        for kind, more in (("lda", {}), ("mixture", {"unlabelled": features[rest]}))
    )
    test, truth = features[206:], labels[206:]
    right = [(h.outputs(test).argmax(axis=1) == truth).mean() for h in (plain, moved)]
    assert right[1] >= right[0]
    assert right[1] > 0.7


@pytest.mark.parametrize("kind", ["logistic", "lda"])
def test_a_name_is_an_example_of_its_class(kind):
    features, labels = problem(examples=6, width=8, classes=3, noise=0.5)
    task = Task(modality="text", names=("a", "b", "c"))
    config = Config.of({"head": kind})
    names = np.random.default_rng(5).normal(size=(3, 8))
    plain = fit_class_head(features, labels, task, config, 0)
    named = fit_class_head(features, labels, task, config, 0, names=names)
    gains = named.outputs(names) - plain.outputs(names)
    assert np.trace(gains) > 0
