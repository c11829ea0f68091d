"""Examples as a backbone sees them, each computed once through the feature store."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Final

import numpy as np
import torch
from jaxtyping import Float32, Int

from fewshot_automl.backbones.backbone import Backbone, Tensors
from fewshot_automl.backbones.readers import TextReader
from fewshot_automl.errors import OutOfTime, TrialError
from fewshot_automl.features.store import FeatureStore, Row
from fewshot_automl.modalities import Input, content_hashes

POOLED: Final = "pooled"
WHOLE: Final = "whole"
"""Pooled features of whole texts: the mean over windows that hold all of a text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """Runs a frozen backbone over examples, and remembers what came out."""

    backbone: Backbone
    """The frozen encoder; its weights are never changed through this."""
    store: FeatureStore
    """Where activations are kept, by content."""
    batch_size: int = 32
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
            vectors = [[r[POOLED] for r in islice(rows, len(one))] for one in pieces]
            yield [{POOLED: np.mean(each, axis=0)} for each in vectors]

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
                pooled = self.backbone.features(batch).float().cpu().numpy()
                return [{POOLED: vector} for vector in pooled]
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
        self, view: int = 0, *, whole: bool = False
    ) -> Float32[np.ndarray, "examples width"]:
        """Return the frozen backbone's feature vectors, of whole texts if asked."""
        place = WHOLE if whole else POOLED
        rows = self._need_encoder().fetch(self.inputs, self.keys, view, place)
        return np.stack([np.asarray(row[POOLED], dtype=np.float32) for row in rows])

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


def length_of(example: Input) -> int:
    """Return what the cost of an example rises with; images all cost the same."""
    return len(example) if isinstance(example, str) else 0


def on_device(batch: Tensors, device: str) -> Tensors:
    """Return the batch on a device."""
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}
