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

TABLE_BYTES: Final = 2**30
"""Largest table in the memory of the CPU; larger ones are collated batch by batch."""
DEVICE_SHARE: Final = 0.25
"""Of the free memory of a GPU, for a table that stays on it."""
LEAST_SAVED: Final = 0.1
"""Share of a batch's positions that a cut by length must save."""
LEAST_ROWS: Final = 4
"""Rows below which a batch is not cut: matrix products of few rows are slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRows:
    """Holds the examples of a fit in one or several views, and cuts batches from them.

    The rows are padded once and stand on the training's device, where they fit. A
    batch is as long as the longest of its rows.
    """

    rows: Sequence[Tensors]
    """All examples in the first view, then all in the second, and so on; each without
    padding."""
    views: int
    """Number of views; a random one is drawn for each example."""
    seed: int
    """Decides which view is drawn, with the number of the step."""
    backbone: Backbone
    """Knows how rows are padded."""
    device: str
    """Where batches are wanted."""
    _whole: Tensors | None = field(init=False)
    _lengths: Int[np.ndarray, " rows"] = field(init=False)

    def __post_init__(self) -> None:
        """Pad and move the rows if they fit."""
        lengths = np.array([next(iter(row.values())).shape[0] for row in self.rows])
        longest = self.rows[int(lengths.argmax())]
        size = len(lengths) * sum(
            t.numel() * t.element_size() for t in longest.values()
        )
        room = TABLE_BYTES
        if self.device.startswith("cuda"):
            room = int(DEVICE_SHARE * torch.cuda.mem_get_info(self.device)[0])
        whole = None
        if size <= room:
            whole = on_device(self.backbone.collate(self.rows), self.device)
        object.__setattr__(self, "_whole", whole)
        object.__setattr__(self, "_lengths", lengths)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.rows) // self.views

    def batch(self, indices: Int[np.ndarray, " batch"], step: int) -> Tensors:
        """Return some examples, equal to what collating their rows would give."""
        rng = np.random.default_rng((self.seed, step))
        places = rng.integers(self.views, size=len(indices)) * len(self) + indices
        if self._whole is None:
            chosen = [self.rows[place] for place in places]
            return on_device(self.backbone.collate(chosen), self.device)
        index = torch.from_numpy(places).to(self.device)
        batch = {name: tensor[index] for name, tensor in self._whole.items()}
        if MASK in batch:
            longest = int(self._lengths[places].max())
            batch = {name: tensor[:, :longest] for name, tensor in batch.items()}
        return batch


def parts_by_length(batch: Tensors) -> list[tuple[Tensor | None, Tensors]]:
    """Return a batch cut into rows of like length, each part with its rows' places.

    A batch that is not cut comes as it is, without places.
    """
    if MASK not in batch:
        return [(None, batch)]
    lengths = batch[MASK].sum(dim=1).cpu().numpy()
    groups = length_groups(lengths)
    if len(groups) < 2:
        return [(None, batch)]
    parts: list[tuple[Tensor | None, Tensors]] = []
    for group in groups:
        index = torch.from_numpy(group).to(batch[MASK].device)
        longest = int(lengths[group].max())
        part = {name: tensor[index, :longest] for name, tensor in batch.items()}
        parts.append((index, part))
    return parts


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
