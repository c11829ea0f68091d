"""Examples as a backbone sees them, each computed once through the feature store."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Final

import numpy as np
import torch
from jaxtyping import Float32, Int

from fewshot_automl.adaptation.heads import unit_rows
from fewshot_automl.backbones.backbone import HIDDEN, MASK, Backbone, Tensors
from fewshot_automl.backbones.readers import TextReader
from fewshot_automl.errors import OutOfTime, TrialError
from fewshot_automl.features.store import FeatureStore, Row
from fewshot_automl.modalities import Input, content_hashes

POOLED: Final = "pooled-2"
"""Names pooled features in the store; the number rises when rows hold more."""
WHOLE: Final = "whole-2"
"""Pooled features of whole texts: the mean over windows that hold all of a text."""
ENCODED: Final = 32
"""Examples in one forward pass."""
LAST: Final = "last"
INNER: Final = "inner"
"""Mean over the tokens of an inner block; rows of images do not have it."""
BLOCKS: Final[Mapping[str, tuple[str, ...]]] = {
    "last": (LAST,),
    "inner": (INNER,),
    "both": (LAST, INNER),
}
"""Which vectors make up pooled features, by what a Config calls it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """Runs a frozen backbone over examples, and remembers what came out."""

    backbone: Backbone
    """The frozen encoder; its weights are never changed through this."""
    store: FeatureStore
    """Where activations are kept, by content."""
    batch_size: int = ENCODED
    """Examples in one forward pass."""
    device: str = "cpu"
    """Where the forward passes run."""
    deadline: float | None = None
    """`time.monotonic()` at which to give up; batches that are done stay stored."""

    def fetch(
        self, inputs: Sequence[Input], keys: Sequence[str], view: int, cut: int | str
    ) -> list[Row]:
        """Return the activations before block `cut`, or `POOLED` or `WHOLE` features.

        Rows that are computed share a batch with their like in length: a text costs
        as much as the longest of its batch.

        Raises:
            OutOfTime: If the deadline passes before all are there.
        """
        backbone = self.backbone
        order = sorted(range(len(inputs)), key=lambda at: length_of(inputs[at]))
        compute = self._means if cut == WHOLE else self._compute
        found = self.store.fetch(
            f"{backbone.weights_sha256}|{backbone.recipe}|cut={cut}|view={view}",
            [keys[at] for at in order],
            lambda missing: compute([inputs[order[at]] for at in missing], view, cut),
        )
        rows = dict(zip(order, found, strict=True))
        return [rows[at] for at in range(len(order))]

    def _means(
        self, inputs: Sequence[Input], view: int, cut: int | str
    ) -> Iterator[list[Row]]:
        reader = self.backbone.reader
        assert isinstance(reader, TextReader)
        for start in range(0, len(inputs), self.batch_size):
            pieces = reader.windows(inputs[start : start + self.batch_size])
            rows = chain(*self._compute([*chain(*pieces)], view, POOLED))
            texts = [list(islice(rows, len(one))) for one in pieces]
            yield [
                {name: np.mean([row[name] for row in text], axis=0) for name in text[0]}
                for text in texts
            ]

    def _compute(
        self, inputs: Sequence[Input], view: int, cut: int | str
    ) -> Iterator[list[Row]]:
        for start in range(0, len(inputs), self.batch_size):
            if self.deadline is not None and time.monotonic() > self.deadline:
                raise OutOfTime(
                    f"The deadline passed after {start} of {len(inputs)} examples "
                    f"had gone through {self.backbone.card.id}."
                )
            wanted = inputs[start : start + self.batch_size]
            yield self._forward(self.backbone.preprocess(wanted, view), cut)

    def _forward(self, rows: list[Tensors], cut: int | str) -> list[Row]:
        batch = on_device(self.backbone.collate(rows), self.device)
        with torch.no_grad():
            if isinstance(cut, str):
                pooled = pooled_features(self.backbone, batch)
                found = [vectors.float().cpu().numpy() for vectors in pooled.values()]
                rows_of = zip(*found, strict=True)
                return [dict(zip(pooled, row, strict=True)) for row in rows_of]
            activations = self.backbone.stem(batch, cut)
        return [
            {name: value.cpu().numpy() for name, value in row.items()}
            for row in self.backbone.split(activations)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encodings:
    """Some examples, raw and as their backbone sees them.

    Methods that need no backbone read `inputs`; the others ask for `pooled` features
    or for `activations` at a cut, and pay only for what nobody asked for before.
    """

    inputs: tuple[Input, ...]
    """The raw examples."""
    encoder: Encoder | None
    """How to encode them; None for methods without a backbone."""
    keys: tuple[str, ...] = field(default=())
    """Content hashes of the examples; made from `inputs` when left out."""

    def __post_init__(self) -> None:
        """Hash the examples unless somebody has."""
        if len(self.keys) != len(self.inputs):
            object.__setattr__(self, "keys", content_hashes(self.inputs))

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.inputs)

    def of(self, inputs: Sequence[Input]) -> "Encodings":
        """Return other examples, seen by the same backbone."""
        return Encodings(inputs=tuple(inputs), encoder=self.encoder)

    def take(self, indices: Int[np.ndarray, " chosen"]) -> "Encodings":
        """Return some of the examples, in the order asked."""
        return Encodings(
            inputs=tuple(self.inputs[i] for i in indices),
            encoder=self.encoder,
            keys=tuple(self.keys[i] for i in indices),
        )

    @property
    def backbone(self) -> Backbone:
        """Return the backbone."""
        return self._need_encoder().backbone

    def pooled(
        self, view: int = 0, *, whole: bool = False, blocks: str = "last"
    ) -> Float32[np.ndarray, "examples width"]:
        """Return the frozen backbone's feature vectors, of whole texts if asked.

        Those of several `BLOCKS` stand side by side, each of length 1.
        """
        place, names = WHOLE if whole else POOLED, BLOCKS[blocks]
        rows = self._need_encoder().fetch(self.inputs, self.keys, view, place)
        found = [np.stack([row[name] for row in rows]) for name in names]
        if len(found) > 1:
            found = [unit_rows(vectors) for vectors in found]
        return np.concatenate(found, axis=1).astype(np.float32)

    def activations(self, cut: int, view: int = 0) -> list[Tensors]:
        """Return the frozen backbone's activations before block `cut`."""
        rows = self._need_encoder().fetch(self.inputs, self.keys, view, cut)
        return [
            {name: torch.from_numpy(np.array(value)) for name, value in row.items()}
            for row in rows
        ]

    def rows(self, view: int = 0) -> list[Tensors]:
        """Return the preprocessed examples, for training from the first layer on."""
        return self.backbone.preprocess(self.inputs, view)

    def _need_encoder(self) -> Encoder:
        if self.encoder is None:
            raise TrialError("This method needs a backbone, and the Config names none.")
        return self.encoder


def pooled_features(backbone: Backbone, batch: Tensors) -> dict[str, torch.Tensor]:
    """Return what a backbone makes of a batch, and what an inner block of a text's.

    The last block of an encoder of sentences keeps their topic and drops much of their
    form. Two thirds of the way up, both are there.
    """
    inner = round(2 * backbone.depth / 3)
    activations = backbone.stem(batch, inner)
    found = {LAST: backbone.tail(activations, inner)}
    if MASK in activations:
        mask = activations[MASK][..., None]
        found[INNER] = (activations[HIDDEN] * mask).sum(1) / mask.sum(1)
    return found


def length_of(example: Input) -> int:
    """Return what the cost of an example rises with; images all cost the same."""
    return len(example) if isinstance(example, str) else 0


def on_device(batch: Tensors, device: str) -> Tensors:
    """Return the batch on a device."""
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}
