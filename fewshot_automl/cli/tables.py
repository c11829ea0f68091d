"""Tables of predictions: columns in, a file out."""

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np
from jaxtyping import Float

from fewshot_automl.errors import UserError

PREDICTION: Final = "prediction"
PROBA: Final = "proba_"
FORMATS: Final = (".csv", ".tsv", ".jsonl", ".parquet")

Columns = Mapping[str, Sequence[object]]


def check_format(path: Path | None) -> None:
    """Check, before any work, that a table can be written to a file of this name.

    Raises:
        UserError: If not.
    """
    if path is None:
        return
    if path.suffix.lower() not in FORMATS:
        raise UserError(
            f"--out must end in {', '.join(FORMATS)}, got '{path.name}'. Rename it."
        )
    if not path.absolute().parent.is_dir():
        raise UserError(
            f"--out must be in a folder that exists, got '{path}'. Make the folder."
        )


def add_predictions(
    columns: Columns,
    class_names: Sequence[str],
    proba: Float[np.ndarray, "examples classes"],
    *,
    with_proba: bool,
) -> dict[str, Sequence[object]]:
    """Return the columns with predictions after them.

    A column that is called as one of ours is replaced.

    >>> add_predictions({"text": ["hm"]}, ["no", "yes"], np.array([[0.3, 0.7]]),
    ...     with_proba=True)
    {'text': ['hm'], 'prediction': ['yes'], 'proba_no': [0.3], 'proba_yes': [0.7]}
    """
    made: dict[str, Sequence[object]] = {
        PREDICTION: [class_names[index] for index in proba.argmax(axis=1)]
    }
    if with_proba:
        for index, name in enumerate(class_names):
            made[f"{PROBA}{name}"] = proba[:, index].tolist()
    kept = {name: cells for name, cells in columns.items() if name not in made}
    return {**kept, **made}


def write_table(columns: Columns, path: Path | None) -> None:
    """Write columns in the format of the file's suffix, or as CSV to stdout."""
    if path is None:
        _write_delimited(columns, sys.stdout, ",")
    elif path.suffix.lower() == ".parquet":
        _write_parquet(columns, path)
    else:
        with path.open("w", encoding="utf-8", newline="") as stream:
            if path.suffix.lower() == ".jsonl":
                _write_json_lines(columns, stream)
            else:
                _write_delimited(
                    columns, stream, "\t" if path.suffix.lower() == ".tsv" else ","
                )


def _write_delimited(columns: Columns, stream: TextIO, delimiter: str) -> None:
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(
        ["" if cell is None else _plain(cell) for cell in row]
        for row in zip(*columns.values(), strict=True)
    )


def _write_json_lines(columns: Columns, stream: TextIO) -> None:
    for row in zip(*columns.values(), strict=True):
        record = {n: _plain(cell) for n, cell in zip(columns, row, strict=True)}
        stream.write(json.dumps(record, ensure_ascii=False) + "\n")


def _write_parquet(columns: Columns, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    made = {}
    for name, cells in columns.items():
        plain = [_plain(cell) for cell in cells]
        try:
            made[name] = pa.array(plain)
        except (pa.ArrowInvalid, pa.ArrowTypeError):  # cells of several kinds
            made[name] = pa.array(
                [None if cell is None else str(cell) for cell in plain]
            )
    pq.write_table(pa.table(made), path)


def _plain(cell: object) -> Any:
    """Return a cell as every format can hold it."""
    if cell is None or isinstance(cell, str | int | float | bool):
        return cell
    if isinstance(cell, Mapping) and "bytes" in cell:  # an encoded image
        return str(cell.get("path") or "image")
    return str(cell)
