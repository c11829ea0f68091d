"""What a modality is: one row of `MODALITIES`, the source of all else."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from fewshot_automl.finding import Finding
from fewshot_automl.modalities.content import Input


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Says what one example turned out to be when it was opened."""

    is_usable: bool = True
    """Whether anything can be learnt from it."""
    fault: str = ""
    """Why it cannot be used, in a clause; may be empty where the kind says it all."""
    key: str = ""
    """Equal for examples that are copies of each other; empty for copies of nothing."""
    is_tiny: bool = False
    """Whether there is next to nothing in it."""


@runtime_checkable
class Modality(Protocol):
    """Knows one kind of input; neither labels nor backbones."""

    name: str
    """In the API, on the command line and on cards."""
    plural: str
    """For people."""
    unusable: str
    """What an example that cannot be used is called, such as ``empty text``."""
    is_fault_an_error: bool
    """Whether an unusable example is something broken that should be repaired, so that
    it must not stand in test data, and ends a strict run."""
    preference: str
    """Which of several columns is taken, in words."""
    augmentations: tuple[str, ...]
    """What a search may do to training examples; the first changes nothing."""
    efficiency: float
    """Share of the rate of matrix products that its encoders reach, before a trial."""

    def holds(self, cells: Sequence[object]) -> bool:
        """Say whether these cells, none of them missing, are examples of it."""
        ...

    def read(self, cell: object, folder: Path | None, origin: str) -> Input:
        """Return the example in a cell.

        Args:
            cell: As the source had it.
            folder: What relative paths are relative to; None for the working folder.
            origin: File and row, for messages.

        Raises:
            DataError: If the cell holds no example.
        """
        ...

    def length(self, item: Input) -> float:
        """Return how long an example is, in the unit that its cost grows with."""
        ...

    def look(self, inputs: Sequence[Input]) -> tuple[Look, ...]:
        """Open every example once and return what was seen."""
        ...

    def findings(
        self, inputs: Sequence[Input], looks: Sequence[Look], origins: Sequence[str]
    ) -> list[Finding]:
        """Return what is odd about usable examples."""
        ...
