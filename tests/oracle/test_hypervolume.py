import numpy as np
import pytest
import torch
from fewshot_automl.oracle.hypervolume import (
    free_boxes,
    hypervolume,
    nondominated,
    reference_point,
)
from hypothesis import given, settings
from hypothesis import strategies as st


def points(draw, most=8):
    """Return points on a coarse grid, so that ties are common."""
    m = draw(st.integers(1, 4))
    n = draw(st.integers(0, most))
    seed = draw(st.integers(0, 2**20))
    return np.random.default_rng(seed).integers(0, 5, (n, m)) / 4.0


def plainly_nondominated(values):
    return [not any((b >= a).all() and (b > a).any() for b in values) for a in values]


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_only_what_nothing_beats_is_on_the_front(data):
    values = points(data.draw)
    assert nondominated(values).tolist() == plainly_nondominated(values)
    batch = np.stack([values, values[::-1]])
    assert nondominated(batch)[1].tolist() == plainly_nondominated(values[::-1])


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_free_boxes_fill_what_is_not_dominated_once(data):
    front = points(data.draw)
    reference = np.full(front.shape[1], 0.1)
    lower, upper = free_boxes(front, reference)
    assert (upper > lower).all()
    places = np.random.default_rng(0).random((300, front.shape[1])) * 1.4 + 0.1
    inside = ((places[:, None] > lower) & (places[:, None] < upper)).all(-1).sum(1)
    dominated = (front >= places[:, None]).all(-1).any(1)
    np.testing.assert_array_equal(inside, ~dominated)
    whole = hypervolume(front, reference)
    for point in places[:20]:
        gained = np.maximum(np.minimum(point, upper) - lower, 0).prod(1).sum()
        more = hypervolume(np.vstack([front, point]), reference)
        assert gained == pytest.approx(more - whole, abs=1e-12)


def test_boxes_are_as_few_as_promised():
    generator = np.random.default_rng(0)
    for m, most in ((2, 21), (3, 41)):
        sphere = np.abs(generator.standard_normal((20, m)))
        sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
        assert len(free_boxes(sphere, np.zeros(m))[0]) == most


@pytest.mark.filterwarnings("ignore::Warning")  # botorch's and torch's own
@pytest.mark.parametrize("m", [2, 3, 4])
def test_botorch_agrees(m):
    from botorch.utils.multi_objective.hypervolume import Hypervolume

    values = np.random.default_rng(m).random((15, m))
    front = values[nondominated(values)]
    reference = np.full(m, 0.2)
    theirs = Hypervolume(torch.from_numpy(reference)).compute(torch.from_numpy(front))
    assert hypervolume(values, reference) == pytest.approx(theirs)


def test_an_unbeatable_reference_leaves_no_volume():
    assert hypervolume(np.ones((3, 2)), np.ones(2)) == 0.0
    lower, upper = free_boxes(np.ones((3, 2)), np.ones(2))
    assert lower.tolist() == [[1.0, 1.0]]
    assert np.isinf(upper).all()


def test_the_reference_is_just_worse_than_what_is_of_interest():
    values = np.array([[4.0, -1.0], [0.0, -0.5], [-9.0, -3.0]])
    qualities = np.array([True, False])
    np.testing.assert_allclose(reference_point(values, qualities), [-0.4, -3.25])
    # One point has no range of its own.
    np.testing.assert_allclose(reference_point(values[:1], qualities), [3.9, -1.1])
