"""Table files: CSV, TSV, JSON Lines, JSON, Parquet, plain lines of text.

UTF-8 and UTF-16 are recognised. Bytes that are not UTF-8 stay in the text as surrogate
escapes until the cells are known, so that `_mended` can name their rows.
"""

import codecs
import difflib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from fewshot_automl.data.delimited import read_delimited
from fewshot_automl.data.examples import Table, from_records
from fewshot_automl.errors import DataError
from fewshot_automl.finding import Finding

_ESCAPED: Final = re.compile("[\udc80-\udcff]")


def read_file(path: Path) -> Table:
    """Return the table in a file, whose kind its suffix tells."""
    kind = path.suffix.lower()
    if not path.is_file():
        raise DataError(missing(path))
    if kind not in READERS and kind not in PARQUET:
        raise DataError(
            f"Data file must end in {', '.join([*READERS, *PARQUET])}, got "
            f"'{path.name}'. Save it as CSV (UTF-8), or pass a pandas DataFrame."
        )
    if kind in PARQUET:
        return replace(_read_parquet(path), folder=path.parent)
    table = READERS[kind](_decoded(path.read_bytes(), path.name), path.name)
    return replace(_mended(table), folder=path.parent)


def missing(path: Path) -> str:
    """Return the sentence for a file that is not there, with names near it."""
    folder = path.parent
    names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    closest = f" Closest: {', '.join(map(repr, near))}." if near else ""
    return f"Data must be an existing file or folder, got '{path}'.{closest}"


def _read_json_lines(text: str, name: str) -> Table:
    records, origins = [], []
    for row, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            origin = f"{name}:{row}"
            records.append(_record(_loads(line, origin), origin))
            origins.append(origin)
    return from_records(name, records, tuple(origins))


def _read_json(text: str, name: str) -> Table:
    items = _loads(text, name)
    if not isinstance(items, list):
        raise DataError(
            f"JSON must be a list of objects, got {type(items).__name__} in {name}. "
            "Write one object a row."
        )
    origins = tuple(f"{name}:{row}" for row in range(1, len(items) + 1))
    records = [_record(item, at) for item, at in zip(items, origins, strict=True)]
    return from_records(name, records, origins)


def _loads(text: str, origin: str) -> object:
    try:
        value: object = json.loads(text)
    except ValueError as error:
        raise DataError(f"JSON must be valid, got {error} in {origin}.") from error
    return value


def _record(item: object, origin: str) -> dict[str, object]:
    if not isinstance(item, dict):
        raise DataError(
            f"JSON row must be an object, got {type(item).__name__} in {origin}. "
            'Write {"text": ..., "label": ...}.'
        )
    return item


def _read_lines(text: str, name: str) -> Table:
    # Only these end a line: str.splitlines cuts at form feeds and U+2028 too. Blank
    # lines are rows, so that answers stand where the questions did.
    lines = re.split("\r\n|\n|\r", text)
    lines = lines[:-1] if not lines[-1] else lines
    return Table(
        name=name,
        columns={"text": lines},
        origins=tuple(f"{name}:{i}" for i in range(1, len(lines) + 1)),
        is_named=False,
        notes=("Input: each line of the file is one text.",),
    )


def _read_parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"Parquet file must be readable, got {error} in {path.name}."
        ) from error
    names = [str(key) for key in content.column_names]
    columns = {key: content.column(i).to_pylist() for i, key in enumerate(names)}
    if len(columns) != len(names):
        raise DataError(f"Column names must be distinct, got {names} in {path.name}.")
    origins = tuple(f"{path.name}:{row}" for row in range(1, content.num_rows + 1))
    return Table(name=path.name, columns=columns, origins=origins)


def _decoded(data: bytes, name: str) -> str:
    """Return text, with a surrogate escape for every byte that is not UTF-8."""
    if data.startswith((b"PK\x03\x04", b"\x1f\x8b", b"%PDF", b"\xd0\xcf\x11\xe0")):
        raise DataError(
            f"Table must be plain text, got a packed or office file in {name}. "
            "Save the sheet as CSV (UTF-8), or unpack the file first."
        )
    sample, encoding = data[:4096], ""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif sample.count(0) > 0.2 * len(sample):  # Latin text in UTF-16 without its mark
        little = sample[1::2].count(0) >= sample[0::2].count(0)
        encoding = "utf-16-le" if little else "utf-16-be"
    if not encoding:
        return data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"Encoding must be UTF-8 or UTF-16, got broken {encoding} in {name} "
            f"({error.reason} at byte {error.start}). Save the file as UTF-8."
        ) from error


def mended(text: str) -> str:
    r"""Return text with escaped bytes, which were not UTF-8, read as Windows-1252.

    >>> mended("caf\udce9")
    'café'
    """
    return _ESCAPED.sub(_windows_letter, text)


def _mended(table: Table) -> Table:
    """Read the bytes that were not UTF-8 as Windows-1252, and say so.

    A finding names the rows if others of the file are UTF-8, so that it mixes
    encodings, or if the letters are not those of a Western language.
    """
    columns = {name: list(values) for name, values in table.columns.items()}
    bad, has_good = set(), False
    for values in columns.values():
        for row, cell in enumerate(values):
            if isinstance(cell, str) and not cell.isascii():
                if _ESCAPED.search(cell):
                    bad.add(row)
                    values[row] = mended(cell)
                else:
                    has_good = True
    if not bad:
        return table
    places, message = [table.origins[row] for row in sorted(bad)], ""
    notes = table.notes
    if has_good:
        message = (
            f"The file mixes encodings: {len(places)} of its rows are not UTF-8 as the "
            "others are, and were read as Windows-1252. Check them, then save as UTF-8."
        )
    else:
        note = (
            "Encoding: Windows-1252, since the file is not UTF-8 (first in "
            f"{places[0]}). If letters look wrong, save the file as UTF-8."
        )
        notes = (*notes, note)
        cells = (cell for values in columns.values() for cell in values)
        letters = [c for cell in cells if isinstance(cell, str) for c in cell]
        letters = list(filter(str.isalpha, letters))
        if len(letters) >= 20 and sum(map(str.isascii, letters)) <= len(letters) / 2:
            message = (
                "The file is neither UTF-8 nor, by its letters, Windows-1252: the "
                "texts are probably garbled. Save it as UTF-8."
            )
    found = [Finding.at("encoding", "warning", message, places)] if message else []
    findings = (*table.findings, *found)
    return replace(table, columns=columns, notes=notes, findings=findings)


def _windows_letter(match: re.Match[str]) -> str:
    byte = bytes([ord(match[0]) - 0xDC00])
    try:
        return byte.decode("cp1252")
    except UnicodeDecodeError:  # the five places that Windows-1252 leaves empty
        return byte.decode("latin-1")


PARQUET: Final = (".parquet", ".pq")
READERS: Final[dict[str, Callable[[str, str], Table]]] = {
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".tab": read_delimited,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".json": _read_json,
    ".txt": _read_lines,
}
"""How each kind of text file is read, by suffix."""
