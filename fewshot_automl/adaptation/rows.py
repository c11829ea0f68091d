"""Training rows as one padded table, from which batches are cut."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from fewshot_automl.adaptation.encodings import on_device
from fewshot_automl.backbones.backbone import MASK, Backbone, Tensors
from fewshot_automl.training.placement import free_bytes

TABLE_BYTES: Final = 2**30
"""Largest table in the memory of the CPU; larger ones are collated batch by batch."""
DEVICE_SHARE: Final = 0.25
"""Of the free memory of a GPU, for a table that stays on it."""
LEAST_SAVED: Final = 0.1
"""Share of a batch's positions that a cut by length must save."""
LEAST_ROWS: Final = 4
"""Rows below which a batch is not cut: matrix products of few rows are slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowTable:
    """Holds rows of a backbone and cuts batches out of them.

    The rows are padded once and stand on the training's device, where they fit. A
    batch is as long as the longest of its rows.
    """

    rows: Sequence[Tensors]
    """The rows, each without padding."""
    examples: int
    """Examples; there is a row for each of them in each view."""
    backbone: Backbone
    """Knows how they are padded."""
    device: str
    """Where batches are wanted."""
    _whole: Tensors | None = field(init=False)
    _lengths: Int[np.ndarray, " rows"] = field(init=False)

    def __post_init__(self) -> None:
        """Pad and move the rows if they fit."""
        lengths = np.array([_length(row) for row in self.rows])
        whole = None
        if _padded_bytes(self.rows, lengths) <= _room(self.device):
            whole = on_device(self.backbone.collate(self.rows), self.device)
        object.__setattr__(self, "_whole", whole)
        object.__setattr__(self, "_lengths", lengths)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def take(self, places: Int[np.ndarray, " batch"]) -> Tensors:
        """Return some rows as a batch, equal to what collating them would give."""
        if self._whole is None:
            chosen = [self.rows[place] for place in places]
            return on_device(self.backbone.collate(chosen), self.device)
        index = torch.from_numpy(places).to(self.device)
        batch = {name: tensor[index] for name, tensor in self._whole.items()}
        if MASK in batch:
            longest = int(self._lengths[places].max())
            batch = {name: tensor[:, :longest] for name, tensor in batch.items()}
        return batch


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewedRows:
    """Examples of a fit in one or several views, a random one for each drawn."""

    table: RowTable
    """All examples in the first view, then all in the second, and so on."""
    chosen: Int[np.ndarray, " examples"]
    """Places of the fit's examples in the first view."""
    views: int
    """Number of views."""
    seed: int
    """Decides which view is drawn, with the number of the step."""

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.chosen)

    def batch(self, indices: Int[np.ndarray, " batch"], step: int) -> Tensors:
        """Return the collated rows of some examples."""
        return self.table.take(self.places(indices, step))

    def places(
        self, indices: Int[np.ndarray, " batch"], step: int
    ) -> Int[np.ndarray, " batch"]:
        """Return the rows of some examples; the views depend on seed and step only."""
        rng = np.random.default_rng((self.seed, step))
        drawn = rng.integers(self.views, size=len(indices))
        found: np.ndarray = drawn * self.table.examples + self.chosen[indices]
        return found


@dataclass(frozen=True, slots=True)
class CohortRows:
    """The rows of several fits that share a table."""

    fits: Sequence[ViewedRows]

    def batch(
        self, members: Sequence[int], drawn: Sequence[np.ndarray], size: int, step: int
    ) -> Tensors:
        """Return the rows of each member in turn, each filled up to `size` rows."""
        places = [
            np.resize(self.fits[member].places(indices, step), size)
            for member, indices in zip(members, drawn, strict=True)
        ]
        return self.fits[0].table.take(np.concatenate(places))


def length_groups(lengths: Int[np.ndarray, " rows"]) -> list[np.ndarray]:
    """Return groups of rows of similar length, where that saves padding.

    A batch costs as much as if all its rows were as long as the longest. It is cut in
    two, and its parts again, as long as that saves a tenth of the whole.

    >>> [group.tolist() for group in length_groups(np.array([9, 2, 8, 2, 2, 2, 9, 9]))]
    [[1, 3, 4, 5], [2, 0, 6, 7]]
    """
    order = np.argsort(lengths, kind="stable")
    least = LEAST_SAVED * len(lengths) * float(lengths.max(initial=0))
    return _cut(order, lengths, least)


def _cut(
    order: np.ndarray, lengths: Int[np.ndarray, " rows"], least: float
) -> list[np.ndarray]:
    size = len(order)
    if size < 2 * LEAST_ROWS:
        return [order]
    ends = np.arange(LEAST_ROWS, size - LEAST_ROWS + 1)
    saved = ends * (lengths[order[-1]] - lengths[order[ends - 1]])
    best = int(saved.argmax())
    if saved[best] <= least:
        return [order]
    first, second = order[: ends[best]], order[ends[best] :]
    return [*_cut(first, lengths, least), *_cut(second, lengths, least)]


def batch_lengths(batch: Tensors) -> Int[np.ndarray, " rows"] | None:
    """Return the length of each row of a padded batch; None if none is padded."""
    if MASK not in batch:
        return None
    lengths: np.ndarray = batch[MASK].sum(dim=1).cpu().numpy()
    return lengths


def part_of(batch: Tensors, group: np.ndarray, length: int) -> Tensors:
    """Return some rows of a padded batch, cut to a length."""
    index = torch.from_numpy(group).to(batch[MASK].device)
    return {name: tensor[index, :length] for name, tensor in batch.items()}


def _length(row: Tensors) -> int:
    """Return the positions of a row of text; images all have one size."""
    first: Tensor = next(iter(row.values()))
    return int(first.shape[0])


def _padded_bytes(rows: Sequence[Tensors], lengths: np.ndarray) -> int:
    if not len(rows):
        return 0
    longest = rows[int(lengths.argmax())]
    return len(rows) * sum(t.numel() * t.element_size() for t in longest.values())


def _room(device: str) -> int:
    if device.startswith("cuda"):
        return int(DEVICE_SHARE * free_bytes(device))
    return TABLE_BYTES
