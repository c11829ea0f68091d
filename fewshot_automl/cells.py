"""What one cell of a table means before anybody knows what it is: missing, a number.

Modalities read examples from cells and task kinds read targets from them; what both
need of cells stands here.
"""

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

_NOTHING: Final = re.compile(r"|#?n[/.]?a\.?|<na>|#?null!?|nan|nil|none|undefined|\\n")
"""What people and programs write where there is no value, as `_spelling` returns it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Column:
    """Holds one column of a source, with what is needed to speak of its cells."""

    name: str
    """Its name in the source."""
    cells: Sequence[object]
    """As the source had them."""
    origins: tuple[str, ...]
    """File and row of each cell."""
    source: str
    """What people call the source: a file name, ``DataFrame``, ``list``."""
    order: tuple[str, ...] = ()
    """Values in the order the source declares; empty if it declares none."""

    def filled(self) -> list[object]:
        """Return the cells that hold something."""
        return [cell for cell in self.cells if not is_missing(cell)]


def is_missing(cell: object) -> bool:
    """Say whether a cell holds nothing: None, NaN, pandas' NA and NaT, or blank text.

    >>> [is_missing(cell) for cell in (None, float("nan"), "  ", "NA", 0, False)]
    [True, True, True, False, False, False]
    """
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(cell, str):
        return not cell.strip()
    if isinstance(cell, (np.datetime64, np.timedelta64)):
        return bool(np.isnat(cell))
    return isinstance(cell, (float, np.floating)) and math.isnan(cell)


def label_text(cell: object) -> str | None:
    """Return the class name in a cell, exactly as written, or None if it is missing.

    A number that is whole is named without decimals, since a single missing label
    turns a whole column of integers into floats.

    >>> [label_text(cell) for cell in ("007", "1.0", 1.0, np.int8(3), True, None)]
    ['007', '1.0', '1', '3', 'True', None]
    """
    if is_missing(cell):
        return None
    if isinstance(cell, np.generic):
        cell = cell.item()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)


def number(text: str) -> float | None:
    """Return the finite number that a text writes, or None.

    >>> number("1e3"), number("nan"), number("7 up")
    (1000.0, None, None)
    """
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def tidied(
    counts: Mapping[str, int], known: Collection[str] = ()
) -> dict[str, str | None]:
    """Return each name as its class is called, and None for a spelling of nothing.

    `counts` says how many rows have it. A class is called as it is `known`, else as
    most rows spell it, those without oddities first. Signs such as ``-`` are nothing
    unless another sign, such as ``+``, is a class.

    >>> tidied({"Spam": 1, "spam": 3, "1.0": 2, "1": 2, "007": 1, "N/A": 1, "-": 1})
    {'Spam': 'spam', 'spam': 'spam', '1.0': '1', '1': '1', '007': '007', 'N/A': None, \
'-': None}
    """

    def oddity(name: str) -> tuple[bool, bool, int, int, str]:
        clean = " ".join(unicodedata.normalize("NFC", name).split())
        is_odd = name != clean or not name.isprintable()
        return name not in known, is_odd, -counts.get(name, 0), len(name), name

    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted({*known, *counts}, key=oddity):
        groups[_spelling(name)].append(name)
    signs = [key for key in groups if not any(map(str.isalnum, key))]
    has_real_sign = any(key.strip("-\u2013\u2014?._") for key in signs)
    called: dict[str, str | None] = {}
    for key, (first, *rest) in groups.items():
        is_sign = key in signs and not has_real_sign
        is_nothing = first not in known and (is_sign or bool(_NOTHING.fullmatch(key)))
        called |= dict.fromkeys([first, *rest], None if is_nothing else first)
    return {name: called[name] for name in counts}


def _spelling(name: str) -> str:
    """Return what all spellings of one class have in common."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    seen = "".join(c for c in plain if c.isprintable() or c.isspace())
    key = " ".join(seen.split())
    is_decimal = re.fullmatch(r"[+-]?(0|[1-9]\d*)\.\d+", key)
    return key.rstrip("0").rstrip(".") if is_decimal else key


def said(name: str) -> str:
    """Return a name in quotes, with what cannot be seen in it written out."""
    return repr(name) if unicodedata.is_normalized("NFC", name) else ascii(name)


def natural_order(names: Collection[str]) -> tuple[str, ...]:
    """Return names sorted as people do: by value where they are numbers.

    >>> natural_order({"10", "9", "-1"}), natural_order({"b2", "B10", "a"})
    (('-1', '9', '10'), ('a', 'b2', 'B10'))
    """
    values = {name: number(name) for name in names}
    if all(value is not None for value in values.values()):
        return tuple(sorted(names, key=lambda name: (values[name], name)))

    def key(name: str) -> tuple[list[tuple[int, int, str]], str]:
        parts = re.split(r"(\d+)", name.casefold())
        return [
            (0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts
        ], name

    return tuple(sorted(names, key=key))
