import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import null_space
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import KNeighborsClassifier

from fewshot_automl.errors import ShapeError
from fewshot_automl.evaluation.transfer import h_score, knn_score, log_me

SCORES = (log_me, h_score, knn_score)


def drawn(examples, width, classes, signal, seed=0):
    """Return noise with class means in it; every class has 2 examples or more."""
    rng = np.random.default_rng(seed)
    labels = np.arange(examples) % classes
    means = rng.normal(size=(classes, width)) * signal
    return means[labels] + rng.normal(size=(examples, width)), labels


def evidence_by_search(features, labels):
    """Return LogME by maximising a normal density in two variances."""
    contrasts = null_space(np.ones((1, len(labels))))
    rows = contrasts.T @ features
    found = []
    for label in np.unique(labels):
        target = contrasts.T @ (labels == label).astype(float)

        def loss(logs, target=target):
            weight, noise = np.exp(logs)
            cov = weight * rows @ rows.T + noise * np.eye(len(rows))
            return -multivariate_normal(cov=cov).logpdf(target)

        starts = [(a, b) for a in (-6, -2) for b in (-6, -2)]
        best = min(minimize(loss, start, method="Nelder-Mead").fun for start in starts)
        found.append(-best / len(target))
    return np.mean(found)


@pytest.mark.parametrize(("examples", "width"), [(12, 3), (16, 40), (24, 12), (9, 1)])
@pytest.mark.parametrize("classes", [2, 3])
def test_log_me_is_the_largest_evidence(examples, width, classes):
    features, labels = drawn(examples, width, classes, signal=0.7)
    expected = evidence_by_search(features, labels)
    assert log_me(features, labels) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("width", [3, 40])
def test_h_score_is_a_trace_of_covariances(width):
    features, labels = drawn(20, width, 4, signal=0.7)
    shrunk = LedoitWolf().fit(features)
    centred = features - features.mean(axis=0)
    means = np.stack([centred[labels == label].mean(axis=0) for label in labels])
    between = (1 - shrunk.shrinkage_) * means.T @ means / len(labels)
    expected = np.trace(np.linalg.inv(shrunk.covariance_) @ between)
    assert h_score(features, labels) == pytest.approx(expected)


def test_one_neighbour_votes_as_sklearns_does():
    features, labels = drawn(30, 8, 3, signal=0.5)
    features = features - features.mean(axis=0)
    right = []
    for left_out in range(30):
        rest = np.arange(30) != left_out
        one = KNeighborsClassifier(1, metric="cosine").fit(features[rest], labels[rest])
        right.append(one.predict(features[[left_out]])[0] == labels[left_out])
    assert knn_score(features, labels, k=1) == pytest.approx(np.mean(right))


@pytest.mark.parametrize("function", SCORES)
@given(
    examples=st.integers(8, 40), width=st.integers(4, 60), seed=st.integers(0, 10**6)
)
@settings(max_examples=20, deadline=None)
def test_factors_offsets_rotations_and_names_of_classes_change_nothing(
    function, examples, width, seed
):
    features, labels = drawn(examples, width, 3, signal=0.5, seed=seed)
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(width, width)))
    order = rng.permutation(examples)
    told = function(features, labels)
    assert np.isfinite(told)
    moved = 7.3 * (features @ turn) + rng.normal(size=width)
    renamed = np.array([5, 9, 2])[labels]
    assert function(moved[order], renamed[order]) == pytest.approx(told, abs=2e-4)


@pytest.mark.parametrize("function", SCORES)
@pytest.mark.parametrize(
    ("examples", "width", "classes"), [(16, 1280, 8), (60, 384, 2), (500, 64, 20)]
)
def test_features_that_tell_classes_apart_rank_above_noise(
    function, examples, width, classes
):
    clear, labels = drawn(examples, width, classes, signal=0.6)
    faint, _ = drawn(examples, width, classes, signal=0.15)
    noise, _ = drawn(examples, width, classes, signal=0.0)
    scores = [function(rows, labels) for rows in (clear, faint, noise)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[2]


def test_their_ranges_are_what_they_say():
    features, labels = drawn(500, 10, 5, signal=30.0)
    assert knn_score(features, labels) == 1
    assert 3.5 < h_score(features, labels) <= 4


@pytest.mark.parametrize("function", SCORES)
def test_twins_flat_features_and_tiny_sets_have_scores(function):
    features, labels = drawn(12, 5, 3, signal=1.0)
    twins = np.vstack([features, features]).astype(np.float32)
    assert np.isfinite(function(twins, np.tile(labels, 2)))
    assert np.isfinite(function(np.ones((6, 4)), labels[:6]))
    assert np.isfinite(function(np.array([[1.0], [2.0]]), np.array([0, 1])))
    assert np.isfinite(function(np.eye(16, 1280), np.arange(16) // 2))
    perfect = np.eye(3)[labels]
    assert function(perfect, labels) > function(perfect, np.arange(12) // 4)


@pytest.mark.parametrize("function", SCORES)
def test_arguments_that_mean_nothing_are_refused(function):
    features, labels = drawn(12, 5, 3, signal=1.0)
    with pytest.raises(ShapeError, match="two classes or more"):
        function(features, np.zeros(12, dtype=np.int64))
    with pytest.raises(ShapeError, match="finite"):
        function(np.where(features > 0, np.nan, features), labels)
    with pytest.raises(ShapeError, match="k must be 1 or more"):
        knn_score(features, labels, k=0)
