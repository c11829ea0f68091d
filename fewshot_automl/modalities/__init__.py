"""What an example is: how it is recognised, read, hashed, opened and measured."""

from typing import Final

from fewshot_automl.errors import unknown_name
from fewshot_automl.modalities.image import IMAGE_SUFFIXES, ImageModality, open_image
from fewshot_automl.modalities.modality import (
    Input,
    Look,
    Modality,
    content_hash,
    content_hashes,
)
from fewshot_automl.modalities.text import TextModality

__all__ = [
    "IMAGE_SUFFIXES",
    "MODALITIES",
    "Input",
    "Look",
    "Modality",
    "content_hash",
    "content_hashes",
    "modality_named",
    "open_image",
]

_ROWS: Final[tuple[Modality, ...]] = (TextModality(), ImageModality())
MODALITIES: Final[dict[str, Modality]] = {row.name: row for row in _ROWS}
"""Every kind of input by name; add to it. A column is offered to the last row first,
for almost any cell is a text."""


def modality_named(name: str) -> Modality:
    """Return the row of that name; the error of another lists the nearest."""
    if name not in MODALITIES:
        raise unknown_name("modality", name, MODALITIES, "fewshot fit --help")
    return MODALITIES[name]
