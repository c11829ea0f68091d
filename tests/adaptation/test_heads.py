import numpy as np
import pytest
from safetensors.numpy import load, save

from fewshot_automl.adaptation.class_heads import fit_class_head
from fewshot_automl.adaptation.heads import (
    NeighbourHead,
    Scaling,
    rbf,
    softmax,
    squared_distances,
)
from fewshot_automl.adaptation.kinds import head_from_state
from fewshot_automl.errors import ExportError
from fewshot_automl.space import Config
from fewshot_automl.tasks import Task

CHANCE = np.random.default_rng(0)


def features(examples=12, width=5):
    return CHANCE.normal(size=(examples, width)) * 10 + 3


@pytest.mark.parametrize("rule", ["unit", "standard"])
def test_scaled_features_have_a_mean_squared_length_of_one(rule):
    rows = features(40)
    scaled = Scaling.fit(rows, rule).apply(rows)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-6)
    assert (scaled**2).sum(axis=1).mean() == pytest.approx(1.0, rel=1e-4)


def test_unit_scaling_keeps_only_directions():
    rows = features()
    scaling = Scaling.fit(rows, "unit")
    np.testing.assert_allclose(scaling.apply(rows * 7.0), scaling.apply(rows))


def test_standard_scaling_by_hand():
    rows = np.array([[0.0, 10.0], [2.0, 30.0]])
    scaled = Scaling.fit(rows, "standard").apply(rows)
    np.testing.assert_allclose(scaled * np.sqrt(2), [[-1, -1], [1, 1]], rtol=1e-6)


@pytest.mark.parametrize("rule", ["unit", "standard"])
def test_a_constant_column_and_equal_rows_stay_finite(rule):
    rows = np.tile([1.0, 0.0, 4.0], (3, 1))
    assert np.isfinite(Scaling.fit(rows, rule).apply(rows)).all()
    rows[:, 0] = [1, 2, 3]
    scaled = Scaling.fit(rows, rule).apply(rows)
    assert np.isfinite(scaled).all()
    assert np.abs(scaled).max() < 3


def test_neighbours_by_hand():
    scaling = Scaling(
        unit=False, center=np.zeros(2, np.float32), scale=np.ones(2, np.float32)
    )
    angles = np.radians([0, 20, 90])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    head = NeighbourHead(
        scaling=scaling,
        points=points,
        votes=np.array([[1, 0], [0, 1], [0, 1]], np.float32),
        neighbours=2,
        sharpness=3.0,
    )
    seen = np.array([[2.0, 0.0]])  # its neighbours are 0 and 20 degrees
    first, second = np.exp(3.0 * np.array([1.0, np.cos(angles[1])]))
    votes = np.array([first, second]) / (first + second) + 1e-3
    np.testing.assert_allclose(head.outputs(seen)[0], votes / votes.sum(), rtol=1e-5)


def test_squared_distances_and_rbf():
    left, right = features(4), features(6)
    direct = ((left[:, None] - right[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(squared_distances(left, right), direct, rtol=1e-9)
    np.testing.assert_allclose(rbf(left, right, 0.01), np.exp(-0.01 * direct))
    assert (squared_distances(left, left).diagonal() >= 0).all()


def test_softmax_survives_large_logits():
    proba = softmax(np.array([[1e4, 0.0], [-1e4, -1e4]]))
    np.testing.assert_array_equal(proba, [[1, 0], [0.5, 0.5]])


@pytest.mark.parametrize("kind", ["logistic", "lda", "rbf"])
def test_arrays_bring_a_head_back(kind):
    rows, labels = features(20), np.arange(20) % 3
    task = Task(modality="text", names=("a", "b", "c"))
    head = fit_class_head(rows, labels, task, Config.of({"head": kind}), 0)
    written = save({k: np.ascontiguousarray(v) for k, v in head.arrays().items()})
    again = head_from_state(head.kind, load(written))
    assert type(again) is type(head)
    np.testing.assert_array_equal(again.outputs(rows), head.outputs(rows))


def test_an_unknown_kind_is_a_newer_version():
    with pytest.raises(ExportError, match="update fewshot_automl"):
        head_from_state("quantum", {})
