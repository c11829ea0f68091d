"""Table files: CSV, TSV, JSON Lines, JSON, Parquet, plain lines of text."""

import difflib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from fewshot_automl.data.delimited import read_delimited
from fewshot_automl.data.encoding import decode, mend
from fewshot_automl.data.table import Table, from_records
from fewshot_automl.errors import DataError


def read_file(path: Path) -> Table:
    """Return the table in a file, whose kind its suffix tells.

    Raises:
        DataError: If the file is missing, of another kind, or cannot be read.
    """
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
    table = READERS[kind](decode(path.read_bytes(), path.name), path.name)
    if not len(table):
        raise DataError(f"Data must have at least one row, got none in {path.name}.")
    columns, notes, findings = mend(table.columns, table.origins)
    return replace(
        table,
        columns=columns,
        folder=path.parent,
        notes=(*table.notes, *notes),
        findings=(*table.findings, *findings),
    )


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
    rows = [(i, line) for i, line in enumerate(text.splitlines(), start=1) if line]
    return Table(
        name=name,
        columns={"text": [line for _, line in rows]},
        origins=tuple(f"{name}:{i}" for i, _ in rows),
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
    if not content.num_rows:
        raise DataError(f"Data must have at least one row, got none in {path.name}.")
    names = [str(key) for key in content.column_names]
    columns = {key: content.column(i).to_pylist() for i, key in enumerate(names)}
    if len(columns) != len(names):
        raise DataError(f"Column names must be distinct, got {names} in {path.name}.")
    origins = tuple(f"{path.name}:{row}" for row in range(1, content.num_rows + 1))
    return Table(name=path.name, columns=columns, origins=origins)


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
