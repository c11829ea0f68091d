"""Table files: CSV, TSV, Excel, JSON, Parquet, plain lines of text; one image too.

UTF-8 and UTF-16 are recognised. Bytes that are not UTF-8 stay in the text as surrogate
escapes until the cells are known, so that `mended_table` can name their rows.
"""

import codecs
import difflib
import json
import os
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

from fewshot_automl.cells import label_text
from fewshot_automl.data.delimited import read_delimited, read_records
from fewshot_automl.data.examples import Table, column_names, from_records
from fewshot_automl.data.memory import read_frame
from fewshot_automl.errors import DataError
from fewshot_automl.finding import Finding
from fewshot_automl.modalities import IMAGE_SUFFIXES

_ESCAPED: Final = re.compile("[\udc80-\udcff]")
_NOT_BLANK: Final = re.compile(r"\S")
_ID: Final = re.compile(r"[^\s/\\]{1,100}$")  # an image's name without suffix


def read_file(path: Path) -> Table:
    """Return the table in a file, whose kind its suffix tells."""
    kind = path.suffix.lower()
    if not path.is_file():
        raise DataError(missing(path))
    if kind in IMAGE_SUFFIXES:  # one image to predict
        table = from_records(str(path), [{"image": path}], (str(path),))
        return replace(table, is_named=False)
    if kind not in SUFFIXES:
        raise DataError(
            f"Data file must end in {', '.join(SUFFIXES)}, got '{path.name}'. Save it "
            "as CSV (UTF-8), or pass a pandas DataFrame."
        )
    if kind in READERS:
        text = decoded(path.read_bytes(), path.name)
        table = mended_table(READERS[kind](text, path.name))
    else:
        table = _read_parquet(path) if kind in PARQUET else _read_excel(path)
    return _with_images(replace(table, folder=path.parent), path.parent)


def _with_images(table: Table, folder: Path) -> Table:
    """Return the table with the images whose names without suffix a column holds."""
    files: dict[str, list[str]] = {}
    for column, cells in table.columns.items():
        every = [label_text(cell) for cell in cells]
        names = [name for name in every if name is not None]
        if not names or len(set(names)) < len(names) or not all(map(_ID.match, names)):
            continue
        for path in () if files else (*folder.glob("*.*"), *folder.glob("*/*.*")):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                files.setdefault(path.stem, []).append(str(path.relative_to(folder)))
        found = [files[name] for name in names if name in files]
        if len(found) < max(1, 0.9 * len(names)):
            continue
        note, most = f"Column {column!r} names ", max(found, key=len)
        if len(most) > 1:
            note += f"{' and '.join(most)}: write paths to choose."
            return replace(table, notes=(*table.notes, note))
        note += f"{most[0]} without its suffix: see the new column '{column} file'."
        images = [files[n][0] if n in files else n for n in every]
        columns = {**table.columns, f"{column} file": images}
        return replace(table, columns=columns, notes=(*table.notes, note))
    return table


def missing(path: Path) -> str:
    """Return the sentence for a file that is not there, with names near it."""
    folder = path.parent
    names = os.listdir(folder) if os.path.isdir(folder) else []  # noqa: PTH112, PTH208
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    closest = f" Closest: {', '.join(map(repr, near))}." if near else ""
    if " " in path.name or (not path.suffix and path == Path(path.name)):
        closest += " If it is a text, pass a list of texts."
    text = textwrap.shorten(str(path), 200, placeholder=" ...")
    return f"Data must be an existing file or folder, got '{text}'.{closest}"


def _read_json(text: str, name: str) -> Table:
    """Return the table in JSON: rows in a list or one after the other, or a frame.

    The suffix does not tell which: people call all of them ``.json``.
    """
    values: list[Any] = []
    origins, row, end, decoder = [], 1, 0, json.JSONDecoder()
    while match := _NOT_BLANK.search(text, end):
        row += text.count("\n", end, match.start())
        try:
            value, end = decoder.raw_decode(text, match.start())
        except json.JSONDecodeError as error:
            raise DataError(
                f"JSON must be valid, got {error} in {name}:{error.lineno}. Write a "
                "list of objects, or one object a line."
            ) from error
        values.append(value)
        origins.append(f"{name}:{row}")
        row += text.count("\n", match.start(), end)
    if len(values) == 1 and isinstance(values[0], dict):
        lists = [rows for rows in values[0].values() if isinstance(rows, list)]
        lists = [rows for rows in lists if rows and isinstance(rows[0], dict)]
        if len(lists) == 1:
            values = lists
        elif (frame := _frame(values[0], name)) is not None:
            return replace(read_frame(frame), name=name)
    if len(values) == 1 and isinstance(values[0], list):
        values = values[0]
        origins = [f"{name}:{row}" for row in range(1, len(values) + 1)]
    return from_records(name, list(map(_record, values, origins)), tuple(origins))


def _frame(value: Mapping[str, Any], name: str) -> Any:
    """Return the DataFrame that `to_json` wrote, by column or row or split, or None."""
    import pandas as pd

    is_split = value.keys() == {"columns", "index", "data"}
    kinds = set(map(type, value.values()))
    if not is_split and kinds not in ({dict}, {list}):
        return None
    try:
        frame = pd.DataFrame(**(value if is_split else {"data": value}), dtype=object)
    except ValueError as error:
        raise DataError(
            f"JSON must hold one table, got {error} in {name}. Write a file for each."
        ) from error
    if kinds == {dict} and not all(map(str.isdigit, frame.index)):
        is_by_row = all(map(str.isdigit, value)) or len(value) > len(frame)
        frame = frame.T if is_by_row else frame
    return frame.rename(index=lambda row: f"of {name}: {row}")


def _record(item: object, origin: str) -> dict[str, object]:
    if not isinstance(item, dict):
        raise DataError(
            f"JSON row must be an object, got {type(item).__name__} in {origin}. "
            'Write {"text": ..., "label": ...}; pandas: to_json(orient="records").'
        )
    return item


def _read_lines(text: str, name: str) -> Table:
    # Only these end a line: str.splitlines cuts at form feeds and U+2028 too. Blank
    # lines are rows, so that answers stand where the questions did.
    lines = re.split("\r\n|\n|\r", text)
    lines = lines[:-1] if not lines[-1] else lines
    tabs = {line.count("\t") for line in lines if line}
    if len(lines) > 1 and len(tabs) == 1 and tabs != {0}:  # Excel's "Unicode Text"
        return read_delimited(text, name)
    return Table(
        name=name,
        columns={"text": lines},
        origins=tuple(f"{name}:{i}" for i in range(1, len(lines) + 1)),
        is_named=False,
        notes=("Input: each line is one text; the name of a table ends in .csv.",),
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
    names = column_names(content.column_names, path.name)
    columns = {key: content.column(i).to_pylist() for i, key in enumerate(names)}
    origins = tuple(f"{path.name}:{row}" for row in range(1, content.num_rows + 1))
    kinds = {key: content.schema.field(i).type for i, key in enumerate(names)}
    ordered = [n for n, t in kinds.items() if pa.types.is_dictionary(t) and t.ordered]
    target = ordered[0] if len(ordered) == 1 else None
    order: tuple[str, ...] = ()
    if target is not None:
        categories = content.column(names.index(target)).combine_chunks().dictionary
        order = tuple(filter(None, map(label_text, categories.to_pylist())))
    return Table(
        name=path.name,
        columns=columns,
        origins=origins,
        target=target,
        class_order=order,
    )


def _read_excel(path: Path) -> Table:
    """Return the first sheet that holds something, with cells as CSV has them."""
    import pandas as pd

    try:
        sheets = pd.read_excel(
            path, None, header=None, dtype=object, na_filter=False, engine="openpyxl"
        )
    except (ImportError, OSError, ValueError, KeyError, BadZipFile) as error:
        raise DataError(
            f"Excel file must be readable by openpyxl, got {error} in {path.name}. "
            "Install it (fewshot-automl[excel]), or save the sheet as CSV (UTF-8)."
        ) from error
    filled = {name: sheet for name, sheet in sheets.items() if not sheet.empty}
    rows = next(iter(filled.values())).values.tolist() if filled else []
    records = [[label_text(cell) or "" for cell in row] for row in rows]
    records = [record if any(record) else [] for record in records]
    note = f"Sheet: the first of {', '.join(map(repr, filled))}."
    return read_records(records, path.name, (note,) if len(filled) > 1 else ())


def decoded(data: bytes, name: str) -> str:
    """Return text, with a surrogate escape for every byte that is not UTF-8."""
    if data.startswith((b"PK\x03\x04", b"\x1f\x8b", b"%PDF", b"\xd0\xcf\x11\xe0")):
        raise DataError(
            f"Table must be plain text, got a packed or office file in {name}. "
            "Save the sheet as CSV (UTF-8), or unpack the file first."
        )
    sample, encoding = data[:4096], ""
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        encoding = "utf-32"
    elif data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
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


def mended_table(table: Table) -> Table:
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
    is_empty = byte in b"\x81\x8d\x8f\x90\x9d"  # in Windows-1252
    return byte.decode("latin-1" if is_empty else "cp1252")


PARQUET: Final = (".parquet", ".pq")
READERS: Final[dict[str, Callable[[str, str], Table]]] = {
    **dict.fromkeys((".csv", ".tsv", ".tab"), read_delimited),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), _read_json),
    ".txt": _read_lines,
}
"""How each kind of text file is read, by suffix."""
SUFFIXES: Final = (*READERS, *PARQUET, ".xlsx", ".xlsm")
