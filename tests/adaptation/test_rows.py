"""Batches cut from a padded table equal what collating the rows would give."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewshot_automl.adaptation import rows as module
from fewshot_automl.adaptation.rows import TrainingRows, length_groups

TEXTS = ("good film", "where is the river city river is", "who", "bad bad film how")


@pytest.fixture
def texts(tiny_backbone):
    backbone = tiny_backbone("tiny-bert")
    return backbone, backbone.preprocess(TEXTS)


def rows_of(backbone, rows, views=1, seed=0):
    return TrainingRows(
        rows=rows, views=views, seed=seed, backbone=backbone, device="cpu"
    )


@pytest.mark.parametrize("room", [2**30, 0])
@pytest.mark.parametrize("places", [[0], [2, 0], [3, 1, 1], [2, 2]])
def test_a_batch_is_what_collating_its_rows_gives(texts, monkeypatch, room, places):
    monkeypatch.setattr(module, "TABLE_BYTES", room)
    backbone, rows = texts
    batch = rows_of(backbone, rows).batch(np.array(places), 0)
    expected = backbone.collate([rows[place] for place in places])
    assert batch.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(batch[name], tensor)


def test_views_are_drawn_by_seed_and_step(tiny_backbone):
    backbone = tiny_backbone("tiny-vit")
    images = [np.full((40, 40, 3), shade, np.uint8) for shade in range(0, 250, 25)]
    views = [row for view in range(3) for row in backbone.preprocess(images, view)]
    rows = rows_of(backbone, views, views=3, seed=5)
    assert len(rows) == len(images)
    indices = np.array([1, 7, 7, 4])

    def drawn(step):
        return rows.batch(indices, step)["pixels"]

    assert torch.equal(drawn(3), drawn(3))
    assert any(not torch.equal(drawn(0), drawn(step)) for step in range(1, 9))
    for step in range(9):
        for place, pixels in zip(indices, drawn(step), strict=True):
            own = [views[v * len(images) + place]["pixels"] for v in range(3)]
            assert any(torch.equal(pixels, one) for one in own)


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
