import dataclasses
import time

import numpy as np
import pytest
import torch

from fewshot_automl.adaptation.encodings import Encoder, Encodings
from fewshot_automl.backbones.backbone import Backbone
from fewshot_automl.errors import OutOfTime, TrialError
from fewshot_automl.features.store import FeatureStore

TEXTS = ("good film", "a", "what is the name of a river ? " * 4, "bad", "the city")


class Spy(Backbone):
    """A backbone that remembers the lengths of the batches it was given."""

    def __init__(self, backbone):
        for row in dataclasses.fields(Backbone):
            setattr(self, row.name, getattr(backbone, row.name))
        self.lengths = []

    def stem(self, batch, cut):  # `features` begins with it too
        self.lengths.append(next(iter(batch.values())).shape[1])
        return Backbone.stem(self, batch, cut)


@pytest.fixture
def spy(tiny_backbone):
    return Spy(tiny_backbone("tiny-bert"))


@pytest.fixture
def encodings(spy):
    encoder = Encoder(backbone=spy, store=FeatureStore(None), batch_size=2)
    return Encodings(inputs=TEXTS, encoder=encoder)


def direct(backbone, texts):
    rows = [backbone.preprocess([text])[0] for text in texts]
    with torch.no_grad():
        return np.stack(
            [backbone.features(backbone.collate([row]))[0].numpy() for row in rows]
        )


def test_pooled_are_the_backbones_features_in_the_order_asked(encodings, tiny_backbone):
    expected = direct(tiny_backbone("tiny-bert"), TEXTS)
    np.testing.assert_allclose(encodings.pooled(), expected, atol=1e-5)
    backwards = encodings.take(np.arange(5)[::-1])
    np.testing.assert_allclose(backwards.pooled(), expected[::-1], atol=1e-5)
    assert backwards.pooled().dtype == np.float32


def test_whole_texts_are_means_over_windows_and_short_ones_what_they_were(encodings):
    long = "what is the name of a river ? " * 20
    backbone, encoder = encodings.backbone, encodings.encoder
    mixed = Encodings(inputs=("bad", long, "a"), encoder=encoder)
    short, windows, last = mixed.pooled(whole=True)
    np.testing.assert_array_equal([short, last], mixed.pooled()[[0, 2]])
    (pieces,) = backbone.reader.windows([long])
    assert len(pieces) > 3
    np.testing.assert_allclose(windows, direct(backbone, pieces).mean(0), atol=1e-5)
    inner = Encodings(inputs=tuple(pieces), encoder=encoder).pooled(blocks="inner")
    read = mixed.pooled(whole=True, blocks="inner")[1]
    np.testing.assert_allclose(read, inner.mean(0), atol=1e-5)
    assert abs(windows - mixed.pooled()[1]).max() > 1e-4


def test_an_inner_block_is_the_mean_over_its_tokens_alone_or_beside_the_last(encodings):
    inner = round(2 * encodings.backbone.depth / 3)
    rows = encodings.activations(inner)
    expected = np.stack([row["hidden"].mean(0).numpy() for row in rows])
    found = encodings.pooled(blocks="inner")
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - encodings.pooled()).max() > 1e-3
    both = encodings.pooled(blocks="both").reshape(len(TEXTS), 2, -1)
    parts = np.stack([encodings.pooled(), found], axis=1)
    units = parts / np.linalg.norm(parts, axis=2, keepdims=True)
    np.testing.assert_allclose(both, units, atol=1e-6)


def test_each_example_is_computed_once(encodings, spy):
    encodings.pooled()
    batches = len(spy.lengths)
    encodings.pooled()
    encodings.take(np.array([3, 1])).pooled()
    Encodings(inputs=TEXTS[::-1], encoder=encodings.encoder).pooled()
    assert len(spy.lengths) == batches == 3
    encodings.activations(1)
    encodings.activations(1)
    assert len(spy.lengths) == 2 * batches  # a cut is another group


def test_texts_of_like_length_share_a_batch(encodings, spy):
    encodings.pooled()
    assert spy.lengths == sorted(spy.lengths)
    assert spy.lengths[0] < spy.lengths[-1]


def test_tail_of_the_activations_is_pooled(encodings, tiny_backbone):
    backbone = tiny_backbone("tiny-bert")
    for cut in range(backbone.depth + 1):
        rows = encodings.activations(cut)
        with torch.no_grad():
            features = backbone.tail(backbone.collate(rows), cut).numpy()
        np.testing.assert_allclose(features, encodings.pooled(), atol=1e-5)


def test_activations_may_be_written_to_without_harm(encodings):
    for row in encodings.activations(1):
        row["hidden"].zero_()
    assert all(row["hidden"].abs().sum() > 0 for row in encodings.activations(1))


def test_views_of_images_are_kept_apart(tiny_backbone):
    chance = np.random.default_rng(0)
    images = tuple(chance.integers(0, 256, (48, 48, 3), dtype=np.uint8) for _ in "abc")
    encoder = Encoder(backbone=tiny_backbone("tiny-vit"), store=FeatureStore(None))
    encodings = Encodings(inputs=images, encoder=encoder)
    plain, other = encodings.pooled(0), encodings.pooled(1)
    assert np.abs(plain - other).max() > 1e-3
    np.testing.assert_array_equal(plain, encodings.pooled(0))
    np.testing.assert_array_equal(other, encodings.pooled(1))


def test_another_process_finds_what_is_on_disk(tmp_path, spy):
    first = Encoder(backbone=spy, store=FeatureStore(tmp_path))
    expected = Encodings(inputs=TEXTS, encoder=first).pooled()
    count = len(spy.lengths)
    second = Encoder(backbone=spy, store=FeatureStore(tmp_path))
    np.testing.assert_array_equal(
        Encodings(inputs=TEXTS, encoder=second).pooled(), expected
    )
    assert len(spy.lengths) == count


def test_past_the_deadline_only_what_is_stored_is_given(encodings, spy):
    few = encodings.take(np.array([0, 1]))
    few.pooled()
    late = Encoder(
        backbone=spy, store=encodings.encoder.store, deadline=time.monotonic() - 1
    )
    assert dataclasses.replace(few, encoder=late).pooled().shape == (2, 32)
    with pytest.raises(OutOfTime, match="tiny-bert"):
        dataclasses.replace(encodings, encoder=late).pooled()


def test_without_a_backbone_there_is_nothing_to_encode():
    bare = Encodings(inputs=TEXTS, encoder=None)
    assert len(bare) == len(bare.keys) == 5
    with pytest.raises(TrialError, match="needs a backbone"):
        bare.pooled()


def test_rows_are_the_preprocessed_examples(encodings, tiny_backbone):
    expected = tiny_backbone("tiny-bert").preprocess(TEXTS)
    for row, wanted in zip(encodings.rows(), expected, strict=True):
        assert all(torch.equal(row[name], wanted[name]) for name in wanted)
