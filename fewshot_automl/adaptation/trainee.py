"""What the training loop is given: rows cut into batches, and a module for them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fewshot_automl.adaptation.encodings import Encodings, on_device
from fewshot_automl.adaptation.heads import Head, LinearHead
from fewshot_automl.adaptation.lora import dropouts
from fewshot_automl.backbones.backbone import MASK, Backbone, Tensors

TABLE_BYTES: Final = 2**30
"""Largest table in the memory of the CPU; larger ones are collated batch by batch."""
DEVICE_SHARE: Final = 0.25
"""Of the free memory of a GPU, for a table that stays on it."""
REPEATS: Final = "repeats"
"""Of a batch that holds an example more than once: the row of each place."""
LEAST_SAVED: Final = 0.1
"""Share of a batch's positions that a cut by length must save."""
LEAST_ROWS: Final = 4
"""Rows below which a batch is not cut: matrix products of few rows are slow."""


class TrainingRows:
    """Holds the examples of a fit in one or several views, and cuts batches from them.

    The rows are padded once and stand on the training's device, where they fit. A
    batch is as long as the longest of its rows. What it holds twice, in one view, is
    one row, and `REPEATS` says where it belongs.
    """

    def __init__(
        self, train: Encodings, start: int, views: int, seed: int, device: str
    ) -> None:
        """Take what block `start` is given (-1: the encoder) of all views of examples.

        Of each example a random view is drawn, by the seed and the number of the step.
        """
        rows = [
            row
            for view in range(views)
            for row in (
                train.rows(view) if start < 0 else train.activations(start, view)
            )
        ]
        self._rows, self._count, self._seed = rows, len(rows) // views, seed
        self._views = views
        self._backbone, self._device = train.backbone, device
        self._lengths = np.array([next(iter(row.values())).shape[0] for row in rows])
        longest = rows[int(self._lengths.argmax())]
        size = len(rows) * sum(t.numel() * t.element_size() for t in longest.values())
        room = TABLE_BYTES
        if device.startswith("cuda"):
            room = int(DEVICE_SHARE * torch.cuda.mem_get_info(device)[0])
        self._whole: Tensors | None = None
        if size <= room:
            self._whole = on_device(train.backbone.collate(rows), device)
            self._rows = []  # no need to hold them twice

    def __len__(self) -> int:
        """Return the number of examples."""
        return self._count

    def batch(
        self, indices: Int[np.ndarray, " batch"], step: int, own: slice = slice(None)
    ) -> Tensors:
        """Return some examples, equal to what collating distinct rows would give."""
        rng = np.random.default_rng((self._seed, step))
        places = rng.integers(self._views, size=len(indices)) * len(self) + indices
        places = places[own]
        distinct, rows = np.unique(places, return_inverse=True)
        if len(distinct) == len(places):
            return self._distinct(places)
        repeats = torch.from_numpy(rows).to(self._device)
        return {**self._distinct(distinct), REPEATS: repeats}

    def _distinct(self, places: Int[np.ndarray, " batch"]) -> Tensors:
        if self._whole is None:
            chosen = [self._rows[place] for place in places]
            return on_device(self._backbone.collate(chosen), self._device)
        index = torch.from_numpy(places).to(self._device)
        batch = {name: tensor[index] for name, tensor in self._whole.items()}
        if MASK in batch:
            longest = int(self._lengths[places].max())
            batch = {name: tensor[:, :longest] for name, tensor in batch.items()}
        return batch


class ScaledLinear(nn.Module):
    """A linear head in torch, acting on scaled features as `LinearHead` does.

    It starts with a share of the weights of a fitted one.
    """

    def __init__(self, head: Head, *, share: float = 1.0) -> None:
        super().__init__()
        assert isinstance(head, LinearHead)
        self._origin = head
        self.register_buffer("center", torch.from_numpy(head.scaling.center.copy()))
        self.register_buffer("scale", torch.from_numpy(head.scaling.scale.copy()))
        self.weight = nn.Parameter(torch.from_numpy(share * head.weight))
        self.bias = nn.Parameter(torch.from_numpy(share * head.bias))

    def forward(self, features: Float[Tensor, "batch width"]) -> Tensor:
        """Return logits."""
        if self._origin.scaling.unit:
            features = nn.functional.normalize(features, dim=-1)
        scaled = (features - self.get_buffer("center")) / self.get_buffer("scale")
        return scaled @ self.weight + self.bias

    def to_head(self) -> LinearHead:
        """Return the head in numpy."""
        weight, bias = (p.detach().float().cpu() for p in (self.weight, self.bias))
        return replace(
            self._origin, weight=weight.numpy().copy(), bias=bias.numpy().copy()
        )


class Trainee(nn.Module):
    """What the training loop sees: batches in, logits or embeddings out.

    The encoder's own dropout stays off. It costs random numbers and the fused
    attention kernel, a few dozen examples gain nothing by it (decision 0009), and a
    batch gives the same rows however it is padded or cut.
    """

    def __init__(self, fork: Backbone, start: int, head: nn.Module | None) -> None:
        """Take an encoder that runs from block `start` on (-1: all of it), and a head.

        What of the encoder requires a gradient is trained.
        """
        super().__init__()
        self.encoder = fork.module
        self.head = head
        self._fork = fork
        self._start = start
        # A forecast knows the lengths of rows by other means.
        self.lengths_of: Callable[[Tensor], np.ndarray] = lambda mask: mask.sum(
            1
        ).numpy()

    def train(self, mode: bool = True) -> "Trainee":
        """Switch the dropout before LoRA layers, and nothing else."""
        super().train(mode)
        self.encoder.eval()
        for dropout in dropouts(self.encoder):
            dropout.train(mode)
        return self

    def blocks(self) -> list[str]:
        """Return the names of the blocks that run."""
        blocks = self._fork.anatomy.blocks[max(self._start, 0) :]
        return [f"encoder.{name}" for block in blocks for name in block]

    def forward(self, batch: Tensors) -> Tensor:
        """Return logits, or embeddings where there is no head."""
        rows = {name: tensor for name, tensor in batch.items() if name != REPEATS}
        features = self._encode(rows)
        if REPEATS in batch:
            features = features[batch[REPEATS]]
        return features if self.head is None else self.head(features)

    def _encode(self, batch: Tensors) -> Tensor:
        """Run the encoder, over rows of like length at a time if that saves padding.

        On a CPU that saves arithmetic; on a GPU it would cost more in starting kernels.
        """
        if MASK not in batch or batch[MASK].device.type != "cpu":
            return self._run(batch)
        lengths = self.lengths_of(batch[MASK])
        groups = length_groups(lengths)
        if len(groups) == 1:
            return self._run(batch)
        made = []
        for group in groups:
            longest = int(lengths[group].max())
            part = {name: t[group, :longest] for name, t in batch.items()}
            made.append(self._run(part))
        return torch.cat(made)[np.concatenate(groups).argsort()]

    def _run(self, batch: Tensors) -> Tensor:
        if self._start < 0:
            return self._fork.features(batch)
        return self._fork.tail(batch, self._start)


def length_groups(lengths: Int[np.ndarray, " rows"]) -> list[np.ndarray]:
    """Return groups of rows of similar length, where that saves padding.

    A batch costs as much as if all its rows were as long as the longest. It is cut in
    two, and its parts again, as long as that saves a tenth of the whole.

    >>> [group.tolist() for group in length_groups(np.array([9, 2, 8, 2, 2, 2, 9, 9]))]
    [[1, 3, 4, 5], [2, 0, 6, 7]]
    """
    least = LEAST_SAVED * len(lengths) * float(lengths.max(initial=0))

    def cut(order: np.ndarray) -> list[np.ndarray]:
        size = len(order)
        if size < 2 * LEAST_ROWS:
            return [order]
        ends = np.arange(LEAST_ROWS, size - LEAST_ROWS + 1)
        saved = ends * (lengths[order[-1]] - lengths[order[ends - 1]])
        best = int(saved.argmax())
        if saved[best] <= least:
            return [order]
        return [*cut(order[: ends[best]]), *cut(order[ends[best] :])]

    return cut(np.argsort(lengths, kind="stable"))
