"""Rows and batches: padding what is long, stacking what is square, and back."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fewshot_automl.backbones.backbone import Tensors

MASK = "mask"
"""Name of the tensor that says which positions of a padded batch are real."""


def pad_rows(rows: Sequence[Tensors], fill: int) -> Tensors:
    """Pad rows on the right to the longest, and add the mask of real positions.

    Args:
        rows: Tensors whose first axis is the position.
        fill: What whole numbers (token ids) are padded with; the rest gets zeros.

    >>> batch = pad_rows([{"ids": torch.tensor([7])}, {"ids": torch.tensor([5, 6])}], 1)
    >>> batch["ids"].tolist(), batch["mask"].tolist()
    ([[7, 1], [5, 6]], [[1, 0], [1, 1]])
    """
    batch: Tensors = {}
    for name, first in rows[0].items():
        value = 0.0 if first.is_floating_point() else float(fill)
        batch[name] = pad_sequence([row[name] for row in rows], True, value)
    name, whole = next(iter(batch.items()))
    lengths = torch.tensor([len(row[name]) for row in rows], device=whole.device)
    positions = torch.arange(whole.shape[1], device=whole.device)
    batch[MASK] = (positions < lengths[:, None]).long()
    return batch


def trim_rows(batch: Tensors) -> list[Tensors]:
    """Undo `pad_rows`; every row owns its memory."""
    lengths: list[int] = batch[MASK].sum(1).tolist()
    names = [name for name in batch if name != MASK]
    return [
        {name: _own(batch[name][index, :length]) for name in names}
        for index, length in enumerate(lengths)
    ]


def stack_rows(rows: Sequence[Tensors]) -> Tensors:
    """Stack rows of one shape."""
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def unstack_rows(batch: Tensors) -> list[Tensors]:
    """Undo `stack_rows`; every row owns its memory."""
    count = len(next(iter(batch.values())))
    return [
        {name: _own(tensor[index]) for name, tensor in batch.items()}
        for index in range(count)
    ]


def _own(view: Tensor) -> Tensor:
    return view.clone(memory_format=torch.contiguous_format)
