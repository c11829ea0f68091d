"""Texts: any string; odd letters, sameness and length are found before training."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from fewshot_automl.cells import is_missing, number
from fewshot_automl.errors import DataError
from fewshot_automl.finding import Finding, counted
from fewshot_automl.modalities.modality import Input, Look

LONG: Final = 2_000
"""Characters, about 450 English tokens: small backbones read no more than 512."""

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]{2,}")


class TextModality:
    """Reads texts; see `Modality`."""

    name = "text"
    plural = "texts"
    unusable = "empty text"
    is_fault_an_error = False
    preference = "the column with the longest texts"
    augmentations: tuple[str, ...] = ("none",)
    efficiency = 0.75

    def holds(self, cells: Sequence[object]) -> bool:
        """Say whether cells are strings that are not just numbers."""
        if not all(isinstance(cell, str) for cell in cells):
            return False
        numbers = sum(number(str(cell)) is not None for cell in cells)
        return numbers < 0.95 * len(cells)

    def read(self, cell: object, folder: Path | None, origin: str) -> Input:
        """Return the text in a cell; a missing one is empty, for the audit to find."""
        if is_missing(cell):
            return ""
        if isinstance(cell, (str, int, float, np.number, np.str_)):
            # Half of a character pair cannot be encoded, and no tokenizer takes it.
            return _SURROGATE.sub("\ufffd", str(cell))
        raise DataError(
            f"Text must be a string, got {type(cell).__name__} in {origin}. "
            "Choose another column with text (--text)."
        )

    def length(self, item: Input) -> float:
        """Return the number of characters."""
        return float(len(str(item)))

    def look(self, inputs: Sequence[Input]) -> tuple[Look, ...]:
        """Return the normalised form of each text."""
        return tuple(Look(key=_normalised(str(text))) for text in inputs)

    def findings(
        self, inputs: Sequence[Input], looks: Sequence[Look], origins: Sequence[str]
    ) -> list[Finding]:
        """Return what is odd about texts, none of which is empty."""
        placed = list(zip(origins, map(str, inputs), strict=True))
        garbled = [at for at, text in placed if _is_garbled(text)]
        message = (
            f"{counted(len(garbled), 'text')} with broken letters (such as \ufffd or "
            "\u00c3\u00a9): the file was saved or read in a wrong encoding. Export it "
            "again as UTF-8."
        )
        found = Finding.any_at("broken letters", "warning", message, garbled)
        long = [at for at, text in placed if len(text) > LONG]
        message = (
            f"{counted(len(long), 'text')} longer than {LONG:,} characters: most "
            "backbones read only the beginning. Put what matters first."
        )
        found += Finding.any_at("long text", "note", message, long)
        distinct = len({look.key for look in looks})
        if len(placed) >= 10 and distinct < 0.2 * len(placed):
            message = (
                f"Only {counted(distinct, 'different text')} among {len(placed):,}: "
                "there is little to learn from. Is it the right column?"
            )
            found.append(Finding(kind="few texts", severity="warning", message=message))
        return found

    def preview(self, item: Input) -> str:
        """Return the text."""
        return str(item)


def _normalised(text: str) -> str:
    """Return a text without the differences that copying makes: case, blanks, width."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _is_garbled(text: str) -> bool:
    """Say whether a text shows UTF-8 read as Windows-1252, or replaced letters."""
    if "\ufffd" in text:
        return True
    for run in _NOT_ASCII.findall(text):
        try:
            run.encode("cp1252").decode("utf-8")
        except UnicodeError:
            continue
        return True
    return False
