"""Texts: any string; odd letters, sameness and length are found before training."""

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from fewshot_automl.cells import is_missing, number
from fewshot_automl.errors import DataError
from fewshot_automl.finding import Finding, counted
from fewshot_automl.modalities.modality import Input, Look

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]{2,}")
_WORD: Final = re.compile(
    r"[^\w\s]*[^\W\d_]+(['\u2019-][^\W\d_]+)*[^\w\s]*|.*[^\x00-\x7f]{2}.*"
)
"""A word in its punctuation; or some of a script with marks or without blanks."""
_NAME: Final = re.compile(
    r"(?P<text>texts?)|(?P<likely>body|comment|content|document|message|post|review|"
    r"sentence|tweet|utterance)s?|(?P<other>ids?|uuid|guid|hash|key|code|ur[li]|link|"
    r"path|file|date|time|timestamp|author|user|source|lang)"
)
"""The words of a column's name that say what stands there; the last one counts."""
_POINTS: Final = {"text": 2, "likely": 1, "other": -1}


class TextModality:
    """Reads texts; see `Modality`."""

    name = "text"
    plural = "texts"
    unusable = "empty text"
    is_fault_an_error = False
    preference = "by name, wording and length"
    augmentations: tuple[str, ...] = ("none",)
    blocks: tuple[str, ...] = ("both", "last", "inner")
    efficiency = 0.75
    first_trained: tuple[str, ...] = ("contrastive", "partial_freeze")

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

    def worth(self, name: str, cells: Sequence[object]) -> tuple[float, ...]:
        """Return points for a name and wording of texts, then the mean length."""
        filled = [str(cell) for cell in cells if not is_missing(cell)][:1000]
        parts = re.findall(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+", name)
        known = [m.lastgroup for p in parts if (m := _NAME.fullmatch(p.casefold()))]
        named = _POINTS[str(known[-1])] if known else 0
        is_worded = sum(map(_wording, filled)) >= 0.5 * len(filled)
        is_varied = len(set(filled)) > max(0.2 * len(filled), 1)
        mean_length = sum(map(len, filled)) / max(len(cells), 1)
        return 2.0 * (is_worded and is_varied) + named, mean_length

    def look(self, inputs: Sequence[Input]) -> tuple[Look, ...]:
        """Return the normalised form of each text."""
        # Without the differences that copying makes: case, blanks, width.
        plain = (unicodedata.normalize("NFKC", str(text)).casefold() for text in inputs)
        return tuple(Look(key=" ".join(text.split())) for text in plain)

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


def windows_of(
    texts: Sequence[str], start: int, tokenizer: Any, max_tokens: int
) -> list[list[str]]:
    """Return each text from `start` on, in few pieces of like length, none too long."""
    found = []
    for text, first in zip(texts, tokenizer.encode_batch(texts), strict=True):
        spans = [s for part in (first, *first.overflowing) for s in part.offsets]
        ends = [end for _, end in spans if end > start]
        added = len(first.ids) - sum(end > start for _, end in first.offsets)
        count = -(-len(ends) // max(max_tokens - added, 1)) or 1
        inner = [ends[len(ends) * i // count - 1] for i in range(1, count)]
        cuts = pairwise([start, *inner, len(text)])
        found.append([text[begin:end] for begin, end in cuts])
    return found


def _wording(text: str) -> float:
    """Return the share of a text that is words, 0 for JSON; markup does not count."""
    if text.strip()[:1] in ("{", "["):
        return 0.0
    tokens = re.sub(r"<[^>]*>", " ", text).split()
    words = [token for token in tokens if _WORD.fullmatch(token)]
    return sum(map(len, words)) / max(sum(map(len, tokens)), 1)


def _is_garbled(text: str) -> bool:
    if "\ufffd" in text:
        return True
    for run in _NOT_ASCII.findall(text):
        try:
            run.encode("cp1252").decode("utf-8")
        except UnicodeError:
            continue
        return True
    return False
