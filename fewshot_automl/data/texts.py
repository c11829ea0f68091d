"""What to look for in texts: broken letters, sameness, length, labels given away."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

import numpy as np

from fewshot_automl.data.examples import Examples
from fewshot_automl.data.findings import Finding, counted

LONG: Final = 2_000
"""Characters, about 450 English tokens: small backbones read no more than 512."""
ALMOST_ALL: Final = 0.9
"""A class name in this share of its class's texts, and hardly elsewhere, is a leak."""
HARDLY_ANY: Final = 0.02

_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]{2,}")


def normalised(text: str) -> str:
    """Return a text without the differences that copying makes: case, blanks, width.

    >>> normalised("  So   GOOD ")
    'so good'
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def is_garbled(text: str) -> bool:
    """Say whether a text shows UTF-8 read as Windows-1252, or replaced letters.

    >>> [is_garbled(text) for text in ("caf\u00e9", "caf\u00c3\u00a9", "caf\ufffd")]
    [False, True, True]
    """
    if "\ufffd" in text:
        return True
    for run in _NOT_ASCII.findall(text):
        try:
            run.encode("cp1252").decode("utf-8")
        except UnicodeError:
            continue
        return True
    return False


def text_findings(examples: Examples, class_names: Sequence[str]) -> list[Finding]:
    """Return what is odd about texts, none of which is empty."""
    texts = [str(text) for text in examples.inputs]
    found = []
    garbled = _places(examples, [is_garbled(text) for text in texts])
    if garbled:
        message = (
            f"{counted(len(garbled), 'text')} with broken letters (such as \ufffd or "
            "\u00c3\u00a9): the file was saved or read in a wrong encoding. Export "
            "it again as UTF-8."
        )
        found.append(Finding.at("broken letters", "warning", message, garbled))
    long = _places(examples, [len(text) > LONG for text in texts])
    if long:
        message = (
            f"{counted(len(long), 'text')} longer than {LONG:,} characters: most "
            "backbones read only the beginning. Put what matters first."
        )
        found.append(Finding.at("long text", "note", message, long))
    distinct = len({normalised(text) for text in texts})
    if len(texts) >= 10 and distinct < 0.2 * len(texts):
        message = (
            f"Only {counted(distinct, 'different text')} among {len(texts):,}: there "
            "is little to learn from. Is it the right column?"
        )
        found.append(Finding(kind="few texts", severity="warning", message=message))
    return found + _leaks(examples, class_names)


def _places(examples: Examples, is_hit: Sequence[bool]) -> list[str]:
    return [at for at, hit in zip(examples.origins, is_hit, strict=True) if hit]


def _leaks(examples: Examples, class_names: Sequence[str]) -> list[Finding]:
    """Return a warning for each class whose name nearly tells its texts apart."""
    known = examples.labelled()
    texts = [str(text).casefold() for text in known.inputs]
    found = []
    for index, name in enumerate(class_names):
        inside = known.labels == index
        if len(name) < 3 or inside.sum() < 5 or inside.all():
            continue
        words = re.compile(rf"(?<!\w){re.escape(name.casefold())}(?!\w)")
        has_name = np.array([words.search(text) is not None for text in texts])
        if (
            has_name[inside].mean() >= ALMOST_ALL
            and has_name[~inside].mean() <= HARDLY_ANY
        ):
            places = [known.origins[i] for i in np.flatnonzero(inside & has_name)]
            message = (
                f"The class name {name!r} stands in nearly all texts of its class and "
                "hardly any other: the text gives the label away. If it will not for "
                "new texts, remove it."
            )
            found.append(Finding.at("label in text", "warning", message, places))
    return found
