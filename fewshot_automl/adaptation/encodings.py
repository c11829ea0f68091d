"""Examples as a backbone sees them, each computed once through the feature store."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
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
        self, inputs: Sequence[Input], keys: Sequence[str], view: int, cut: int | None
    ) -> list[Row]:
        """Return the activations before block `cut`; for None, the pooled features.

        Rows that are computed share a batch with their like in length: a text costs
        as much as the longest of its batch.

        Raises:
            OutOfTime: If the deadline passes before all are there.
        """
        backbone, place = self.backbone, POOLED if cut is None else cut
        order = sorted(range(len(inputs)), key=lambda at: length_of(inputs[at]))
        found = self.store.fetch(
            f"{backbone.weights_sha256}|{backbone.recipe}|cut={place}|view={view}",
            [keys[at] for at in order],
            lambda missing: self._compute(
                [inputs[order[at]] for at in missing], view, cut
            ),
        )
        rows = dict(zip(order, found, strict=True))
        return [rows[at] for at in range(len(order))]

    def _compute(
        self, inputs: list[Input], view: int, cut: int | None
    ) -> Iterator[list[Row]]:
        for start in range(0, len(inputs), self.batch_size):
            if self.deadline is not None and time.monotonic() > self.deadline:
                raise OutOfTime(
                    f"The deadline passed after {start} of {len(inputs)} examples "
                    f"had gone through {self.backbone.card.id}."
                )
            wanted = inputs[start : start + self.batch_size]
            yield self._forward(self.backbone.preprocess(wanted, view), cut)

    def _forward(self, rows: list[Tensors], cut: int | None) -> list[Row]:
        batch = on_device(self.backbone.collate(rows), self.device)
        with torch.no_grad():
            if cut is None:
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
        """Return the frozen backbone's feature vectors, of whole texts if asked.

        Those of a text that is too long are the mean over windows that hold all of it.
        """
        if whole:
            reader = self.backbone.reader
            assert isinstance(reader, TextReader)
            pieces = reader.windows(self.inputs)
            flat = Encodings(inputs=tuple(chain(*pieces)), encoder=self.encoder)
            ends = np.cumsum([len(one) for one in pieces])[:-1]
            parts = np.split(flat.pooled(view), ends)
            return np.stack([part.mean(axis=0) for part in parts])
        rows = self._need_encoder().fetch(self.inputs, self.keys, view, None)
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
