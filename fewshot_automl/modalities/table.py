"""Every kind of input there is; one row each."""

from typing import Final

from fewshot_automl.errors import UserError, unknown_name
from fewshot_automl.modalities.image import ImageModality
from fewshot_automl.modalities.modality import Modality
from fewshot_automl.modalities.text import TextModality

_ROWS: Final[tuple[Modality, ...]] = (TextModality(), ImageModality())
MODALITIES: Final[dict[str, Modality]] = {row.name: row for row in _ROWS}
"""By name. A column is offered to the last row first, for almost any cell is a text."""


def register_modality(row: Modality) -> Modality:
    """Add a kind of input to the table.

    Raises:
        UserError: If there is another of that name.
    """
    if MODALITIES.setdefault(row.name, row) is not row:
        raise UserError(f"Modality must have a new name, got {row.name!r}. Rename it.")
    return row


def modality_named(name: str) -> Modality:
    """Return the row of that name.

    Raises:
        UnknownNameError: If there is none.
    """
    if name not in MODALITIES:
        raise unknown_name("modality", name, MODALITIES, "fewshot fit --help")
    return MODALITIES[name]
