"""The seam between raw examples and the rows an encoder takes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from fewshot_automl.backbones.backbone import Tensors
from fewshot_automl.modalities import Input


@runtime_checkable
class Reader(Protocol):
    """Knows one modality: how examples become rows and rows become batches."""

    recipe: str
    """Everything that shapes `read`, in one stable line."""

    def read(self, inputs: Sequence[Input], view: int) -> list[Tensors]:
        """Turn raw examples into rows; see `Backbone.preprocess`."""
        ...

    def collate(self, rows: Sequence[Tensors]) -> Tensors:
        """Make one batch of rows."""
        ...

    def split(self, batch: Tensors) -> list[Tensors]:
        """Undo `collate`."""
        ...

    def save(self, folder: Path) -> None:
        """Write the files that reading needs besides the card."""
        ...
