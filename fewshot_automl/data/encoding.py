"""Bytes of unknown encoding to text, without losing or inventing characters.

UTF-8 and UTF-16 are recognised. Bytes that are not UTF-8 stay in the text as
surrogate escapes until the cells are known, so that `mend` can name their rows.
"""

import codecs
import re
from collections.abc import Mapping, Sequence
from typing import Final

from fewshot_automl.errors import DataError
from fewshot_automl.finding import Finding

_ESCAPED: Final = re.compile("[\udc80-\udcff]")


def decode(data: bytes, name: str) -> str:
    r"""Return text, with a surrogate escape for every byte that is not UTF-8.

    Raises:
        DataError: If the bytes are a packed file, or broken UTF-16.

    >>> decode("é".encode("utf-16"), "a.csv"), decode(b"caf\xe9", "a.csv")
    ('é', 'caf\udce9')
    """
    if data.startswith((b"PK\x03\x04", b"\x1f\x8b", b"%PDF", b"\xd0\xcf\x11\xe0")):
        raise DataError(
            f"Table must be plain text, got a packed or office file in {name}. "
            "Save the sheet as CSV (UTF-8), or unpack the file first."
        )
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _decode_wide(data, "utf-16", name)
    sample = data[:4096]
    if sample.count(0) > 0.2 * len(sample):  # Latin text in UTF-16 without its mark
        little = sample[1::2].count(0) >= sample[0::2].count(0)
        return _decode_wide(data, "utf-16-le" if little else "utf-16-be", name)
    return data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")


def _decode_wide(data: bytes, encoding: str, name: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"Encoding must be UTF-8 or UTF-16, got broken {encoding} in {name} "
            f"({error.reason} at byte {error.start}). Save the file as UTF-8."
        ) from error


def mend(
    columns: Mapping[str, Sequence[object]], origins: Sequence[str]
) -> tuple[dict[str, list[object]], tuple[str, ...], tuple[Finding, ...]]:
    """Read the bytes that were not UTF-8 as Windows-1252, and say so.

    Returns:
        The columns with every escape replaced; sentences for people; a finding that
        names the rows if others of the file are UTF-8, so that it mixes encodings.
    """
    cells = {name: list(values) for name, values in columns.items()}
    bad, good = set(), False
    for values in cells.values():
        for row, cell in enumerate(values):
            if isinstance(cell, str) and not cell.isascii():
                if _ESCAPED.search(cell):
                    bad.add(row)
                    values[row] = _ESCAPED.sub(_windows_letter, cell)
                else:
                    good = True
    if not bad:
        return cells, (), ()
    places = [origins[row] for row in sorted(bad)]
    if not good:
        note = (
            "Encoding: Windows-1252, since the file is not UTF-8 (first in "
            f"{places[0]}). If letters look wrong, save the file as UTF-8."
        )
        return cells, (note,), _foreign(cells, places)
    message = (
        f"The file mixes encodings: {len(places)} of its rows are not UTF-8 as the "
        "others are, and were read as Windows-1252. Check them, then save as UTF-8."
    )
    return cells, (), (Finding.at("encoding", "warning", message, places),)


def _foreign(
    cells: Mapping[str, Sequence[object]], places: Sequence[str]
) -> tuple[Finding, ...]:
    """Return a warning if the letters are not those of a Western language."""
    letters = "".join(c for v in cells.values() for c in v if isinstance(c, str))
    letters = "".join(filter(str.isalpha, letters))
    ascii_letters = sum(map(str.isascii, letters))
    if len(letters) < 20 or ascii_letters > len(letters) / 2:
        return ()
    message = (
        "The file is neither UTF-8 nor, by its letters, Windows-1252: the texts are "
        "probably garbled. Save it as UTF-8."
    )
    return (Finding.at("encoding", "warning", message, places),)


def _windows_letter(match: re.Match[str]) -> str:
    byte = bytes([ord(match[0]) - 0xDC00])
    try:
        return byte.decode("cp1252")
    except UnicodeDecodeError:  # the five places that Windows-1252 leaves empty
        return byte.decode("latin-1")
