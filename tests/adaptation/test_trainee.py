"""Batches equal what collating gives; a module's rows do not depend on the cut."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewshot_automl.adaptation import trainee as module
from fewshot_automl.adaptation.encodings import Encoder, Encodings
from fewshot_automl.adaptation.heads import LinearHead, Scaling
from fewshot_automl.adaptation.lora import attach, dropouts
from fewshot_automl.adaptation.trainee import (
    REPEATS,
    ScaledLinear,
    Trainee,
    TrainingRows,
    length_groups,
)
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.space import Config

LONG = "where is the river city river is where a good film"
TEXTS = tuple(LONG[: 4 + 9 * (n % 6)] for n in range(16))
FEW = ("good film", "where is the river city river is", "who", "bad bad film how")


@pytest.fixture
def adapted(tiny_backbone):
    base = tiny_backbone("tiny-bert")
    shape = Config.of({"rank": 4, "alpha_ratio": 2.0, "lora_dropout": 0.4})
    return base, Trainee(attach(base, 1, shape, seed=0), 1, None)


def test_short_and_long_rows_run_apart_with_the_same_result(adapted, monkeypatch):
    base, trainee = adapted
    cuts = []
    run = Trainee._run

    def spy(trainee, batch):
        cuts.append(batch["hidden"].shape[1])
        return run(trainee, batch)

    monkeypatch.setattr(Trainee, "_run", spy)
    batch = base.stem(base.collate(base.preprocess(TEXTS)), 1)
    found = trainee.eval()(batch)
    assert len(cuts) > 1
    assert min(cuts) < max(cuts)
    torch.testing.assert_close(found, run(trainee, batch), atol=1e-5, rtol=1e-4)


def test_only_the_dropout_before_lora_layers_is_switched_on(adapted):
    _, trainee = adapted
    trainee.train()
    switched = {m for m in trainee.encoder.modules() if m.training}
    assert switched == set(dropouts(trainee.encoder)) != set()
    trainee.eval()
    assert not any(m.training for m in trainee.encoder.modules())


@pytest.mark.parametrize("unit", [True, False])
def test_the_head_in_torch_is_the_head_in_numpy(unit):
    chance = np.random.default_rng(0)
    features = chance.normal(size=(7, 5)).astype(np.float32)
    head = LinearHead(
        scaling=Scaling.fit(features, "unit" if unit else "standard"),
        weight=chance.normal(size=(5, 3)).astype(np.float32),
        bias=chance.normal(size=3).astype(np.float32),
    )
    trained = ScaledLinear(head)
    proba = trained(torch.from_numpy(features)).softmax(dim=1)
    np.testing.assert_allclose(proba.detach(), head.outputs(features), atol=1e-5)
    with torch.no_grad():
        trained.bias += 1
    again = trained.to_head()
    np.testing.assert_array_equal(again.weight, head.weight)
    np.testing.assert_array_equal(again.bias, head.bias + 1)


def encoded(backbone, inputs):
    encoder = Encoder(backbone=backbone, store=FeatureStore(None))
    return Encodings(inputs=tuple(inputs), encoder=encoder)


def spread(batch):
    places = batch.pop(REPEATS, slice(None))
    return {name: tensor[places] for name, tensor in batch.items()}


@pytest.mark.parametrize("room", [2**30, 0])
@pytest.mark.parametrize("places", [[0], [2, 0], [3, 1, 1], [2, 2]])
@pytest.mark.parametrize("start", [-1, 1])
def test_a_batch_is_what_collating_its_rows_gives(
    tiny_backbone, monkeypatch, room, places, start
):
    monkeypatch.setattr(module, "TABLE_BYTES", room)
    train = encoded(tiny_backbone("tiny-bert"), FEW)
    rows = train.rows() if start < 0 else train.activations(start)
    batch = TrainingRows(train, start, 1, 0, "cpu").batch(np.array(places), 0)
    assert {len(t) for n, t in batch.items() if n != REPEATS} == {len(set(places))}
    batch = spread(batch)
    expected = train.backbone.collate([rows[place] for place in places])
    assert batch.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(batch[name], tensor)


def test_an_example_that_comes_twice_is_run_once(adapted, monkeypatch):
    base, trainee = adapted
    rows = TrainingRows(encoded(base, FEW), 1, 1, 0, "cpu")
    run, sizes = Trainee._run, []

    def spy(trainee, batch):
        sizes.append(len(batch["hidden"]))
        return run(trainee, batch)

    monkeypatch.setattr(Trainee, "_run", spy)
    twice = trainee.eval()(rows.batch(np.array([3, 1, 3, 0]), 0))
    once = trainee(rows.batch(np.array([3, 1, 0]), 0))
    assert sizes == [3, 3]
    torch.testing.assert_close(twice, once[[0, 1, 0, 2]], atol=1e-5, rtol=1e-4)


def test_views_are_drawn_by_seed_and_step(tiny_backbone):
    images = [np.full((40, 40, 3), shade, np.uint8) for shade in range(0, 250, 25)]
    train = encoded(tiny_backbone("tiny-vit"), images)
    rows = TrainingRows(train, -1, 3, 5, "cpu")
    assert len(rows) == len(images)
    indices = np.array([1, 7, 7, 4])

    def drawn(step):
        return spread(rows.batch(indices, step))["pixels"]

    assert torch.equal(drawn(3), drawn(3))
    assert any(not torch.equal(drawn(0), drawn(step)) for step in range(1, 9))
    views = [train.rows(view) for view in range(3)]
    for step in range(9):
        for place, pixels in zip(indices, drawn(step), strict=True):
            assert any(torch.equal(pixels, view[place]["pixels"]) for view in views)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_groups_hold_every_row_once_and_save_padding(lengths):
    lengths = np.array(lengths)
    groups = length_groups(lengths)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(lengths)))
    padded = sum(len(group) * lengths[group].max() for group in groups)
    whole = len(lengths) * lengths.max()
    assert padded <= whole
    if len(groups) > 1:
        assert min(map(len, groups)) >= module.LEAST_ROWS
        assert padded < (1 - module.LEAST_SAVED) * whole


def test_rows_of_one_length_are_not_cut():
    assert len(length_groups(np.full(30, 7))) == 1
