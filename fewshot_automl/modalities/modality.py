"""What one example is, a hash of what it holds, and what a modality knows of it."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from fewshot_automl.finding import Finding

Input = str | Path | bytes | np.ndarray
"""A text (`str`), a file (`Path`), an encoded image (`bytes`), or an array: pixels
of shape `[height, width]`, `[height, width, 3]` or `[height, width, 4]`."""


def content_hash(item: Input) -> str:
    """Return a hash of what an example holds, not of where it lies."""
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(item, str):
        digest.update(b"text\0" + item.encode("utf-8", "surrogatepass"))
    elif isinstance(item, os.PathLike):
        digest.update(b"image\0" + Path(item).read_bytes())
    elif isinstance(item, bytes):
        digest.update(b"image\0" + item)
    else:
        digest.update(f"pixels\0{item.shape}{item.dtype}".encode())
        digest.update(np.ascontiguousarray(item).tobytes())
    return digest.hexdigest()


def content_hashes(items: Sequence[Input]) -> tuple[str, ...]:
    """Return `content_hash` of each example."""
    return tuple(map(content_hash, items))


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Says what one example turned out to be when it was opened."""

    key: str = ""
    """Equal for examples that are copies of each other; empty if it is unusable."""
    fault: str = ""
    """Why it cannot be used, in a clause; may be empty where the kind says it all."""
    oddities: tuple[str, ...] = ()
    """Kinds of findings that concern it although it can be used."""


@runtime_checkable
class Modality(Protocol):
    """Knows one kind of input, a row of `MODALITIES`; neither labels nor backbones."""

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
    """By what one of several columns is taken, in words."""
    augmentations: tuple[str, ...]
    """What a search may do to training examples; the first changes nothing."""
    blocks: tuple[str, ...]
    """Which blocks of its encoders a head may read; the first is the default."""
    efficiency: float
    """Share of the rate of matrix products that its encoders reach, before a trial."""
    first_trained: tuple[str, ...]
    """Methods that train, those that a search tries first."""

    def holds(self, cells: Sequence[object]) -> bool:
        """Say whether these cells, none of them missing, are examples of it."""
        ...

    def read(self, cell: object, folder: Path | None, origin: str) -> Input:
        """Return the example in a cell; `folder` is what paths are relative to.

        Raises:
            DataError: If the cell holds no example; `origin` is its file and row.
        """
        ...

    def worth(self, name: str, cells: Sequence[object]) -> tuple[float, ...]:
        """Return how much a column looks like the input; the first greatest is."""
        ...

    def look(self, inputs: Sequence[Input]) -> tuple[Look, ...]:
        """Open every example once and return what was seen."""
        ...

    def findings(
        self, inputs: Sequence[Input], looks: Sequence[Look], origins: Sequence[str]
    ) -> list[Finding]:
        """Return what is odd about usable examples."""
        ...

    def preview(self, item: Input) -> str | bytes:
        """Return what a person sees of an example: a text, or a small JPEG."""
        ...
