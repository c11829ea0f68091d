import numpy as np
import pytest

from fewshot_automl.adaptation.encodings import Encoder, Encodings
from fewshot_automl.adaptation.frozen import SHARPNESSES, Probe, Prototype
from fewshot_automl.adaptation.method import Job, Profile
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.space import Space
from fewshot_automl.tasks import Task
from fewshot_automl.training.placement import choose_placement

TASK = Task(modality="text", names=("a", "b", "c"))
TEXTS = tuple(
    f"{w} {c}" for w in ("good film", "river city", "who name") for c in "xyz"
)
LABELS = np.repeat([0, 1, 2], 3)


@pytest.fixture
def train(tiny_backbone):
    encoder = Encoder(backbone=tiny_backbone("tiny-bert"), store=FeatureStore(None))
    return Encodings(inputs=TEXTS, encoder=encoder)


def head_of(train, labels=LABELS, **values):
    counts = tuple(np.bincount(labels, minlength=3).tolist())
    space = Space(Prototype().dimensions(Profile(task=TASK, strata=counts)))
    job = Job(
        task=TASK,
        config=space.default(blocks="last", **values),
        seed=0,
        placement=choose_placement("cpu"),
    )
    return Prototype().fit(train, labels, job).head


def centred(train):
    rows = train.pooled().astype(float)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows - rows.mean(axis=0)


def directions(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_points_are_the_class_means_of_centred_directions(train):
    head = head_of(train, rule="mean")
    rows = centred(train)
    means = directions(np.stack([rows[k == LABELS].mean(axis=0) for k in range(3)]))
    np.testing.assert_allclose(head.points, means, atol=1e-4)
    cosine = directions(rows) @ means.T
    expected = np.exp(head.sharpness * cosine)
    expected = expected / expected.sum(axis=1, keepdims=True) + 1e-3
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(head.outputs(train.pooled()), expected, atol=1e-3)


def test_one_neighbour_is_the_nearest_example(train):
    head = head_of(train, rule="knn", neighbours=1)
    assert head.points.shape == (9, 32)
    proba = head.outputs(train.pooled())
    np.testing.assert_array_equal(proba.argmax(axis=1), LABELS)
    np.testing.assert_allclose(proba.max(axis=1), 1.001 / 1.003, atol=1e-6)


def test_more_neighbours_than_examples_take_all(train):
    few = np.array([0, 3, 6])
    head = head_of(train.take(few), LABELS[few], rule="knn", neighbours=3)
    assert head.neighbours == 3
    assert np.isfinite(head.outputs(train.pooled())).all()


def test_the_sharpness_fits_what_is_held_out(train):
    """Where the labels are noise, a soft vote is the best there is."""
    noise = np.array([0, 1, 2, 1, 2, 0, 2, 0, 1])
    assert head_of(train, rule="mean").sharpness > min(SHARPNESSES)
    assert head_of(train, noise, rule="mean").sharpness == min(SHARPNESSES)


def test_there_are_no_more_neighbours_to_choose_than_make_sense():
    for counts, most in (((2, 2, 2), 4), ((1, 1, 1), 3), ((90, 90, 90), 31)):
        profile = Profile(task=TASK, strata=counts)
        neighbours = Space(Prototype().dimensions(profile))["neighbours"]
        assert (neighbours.low, neighbours.high) == (1, most)


def test_class_weights_are_a_dimension_of_uneven_classes_only():
    for counts, more in (((8, 8), []), ((8, 12), []), ((8, 13), ["class_weights"])):
        found = Probe().dimensions(Profile(task=TASK, strata=counts))
        assert [each.name for each in found] == ["head", "scaling", *more, "blocks"]
