"""Batches cut from a padded table equal what collating the rows would give."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewshot_automl.adaptation import rows as module
from fewshot_automl.adaptation.rows import (
    CohortRows,
    RowTable,
    ViewedRows,
    length_groups,
)

TEXTS = ("good film", "where is the river city river is", "who", "bad bad film how")


@pytest.fixture
def texts(tiny_backbone):
    backbone = tiny_backbone("tiny-bert")
    return backbone, backbone.preprocess(TEXTS)


def table_of(backbone, rows, examples=None):
    return RowTable(
        rows=rows,
        examples=len(rows) if examples is None else examples,
        backbone=backbone,
        device="cpu",
    )


@pytest.mark.parametrize("room", [2**30, 0])
@pytest.mark.parametrize("places", [[0], [2, 0], [3, 1, 1], [2, 2]])
def test_a_batch_is_what_collating_its_rows_gives(texts, monkeypatch, room, places):
    monkeypatch.setattr(module, "TABLE_BYTES", room)
    backbone, rows = texts
    batch = table_of(backbone, rows).take(np.array(places))
    expected = backbone.collate([rows[place] for place in places])
    assert batch.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(batch[name], tensor)


def test_images_have_no_mask_to_cut_by(tiny_backbone):
    backbone = tiny_backbone("tiny-vit")
    images = [np.full((40, 40, 3), shade, np.uint8) for shade in (10, 90, 200)]
    rows = backbone.preprocess(images)
    batch = table_of(backbone, rows).take(np.array([2, 0]))
    assert torch.equal(
        batch["pixels"], torch.stack([rows[2]["pixels"], rows[0]["pixels"]])
    )


def test_views_lie_one_after_another_and_are_drawn_by_seed_and_step(tiny_backbone):
    backbone = tiny_backbone("tiny-vit")
    images = [np.full((40, 40, 3), shade, np.uint8) for shade in range(0, 250, 25)]
    views = [row for view in range(3) for row in backbone.preprocess(images, view)]
    table = table_of(backbone, views, examples=len(images))
    chosen = np.array([1, 4, 7])
    rows = ViewedRows(table=table, chosen=chosen, views=3, seed=5)
    places = rows.places(np.array([0, 2, 2, 1]), step=3)
    assert (places % len(images)).tolist() == [1, 7, 7, 4]
    assert np.array_equal(places, rows.places(np.array([0, 2, 2, 1]), step=3))
    drawn = np.stack([rows.places(np.arange(3), step) for step in range(40)])
    assert set((drawn // len(images)).ravel().tolist()) == {0, 1, 2}
    plain = ViewedRows(table=table, chosen=chosen, views=1, seed=5)
    assert plain.places(np.arange(3), 0).tolist() == [1, 4, 7]


def test_rows_of_a_cohort_stand_slot_by_slot_filled_up(texts):
    backbone, rows = texts
    table = table_of(backbone, rows)
    fits = [
        ViewedRows(table=table, chosen=np.array(chosen), views=1, seed=0)
        for chosen in ([0, 1], [2, 3], [1, 2, 3])
    ]
    batch = CohortRows(fits).batch([0, 2], [np.array([1]), np.array([0, 2])], 3, 0)
    expected = backbone.collate([rows[i] for i in (1, 1, 1, 1, 3, 1)])
    for name, tensor in expected.items():
        assert torch.equal(batch[name], tensor)


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
