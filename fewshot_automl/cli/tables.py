"""Tables of predictions: columns in, a file out."""

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

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
        sys.stdout.write(_delimited(columns, ","))
        return
    kind = path.suffix.lower()
    if kind == ".parquet":
        _write_parquet(columns, path)
    elif kind == ".jsonl":
        path.write_text(_json_lines(columns), "utf-8", newline="")
    else:
        delimiter = "\t" if kind == ".tsv" else ","
        path.write_text(_delimited(columns, delimiter), "utf-8", newline="")


def _delimited(columns: Columns, delimiter: str) -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(
        ["" if cell is None else _plain(cell) for cell in row]
        for row in zip(*columns.values(), strict=True)
    )
    return text.getvalue()


def _json_lines(columns: Columns) -> str:
    lines = []
    for row in zip(*columns.values(), strict=True):
        record = {n: _plain(cell) for n, cell in zip(columns, row, strict=True)}
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    return "".join(lines)


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
