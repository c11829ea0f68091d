"""Data in memory: lists, arrays, mappings of columns, pandas frames and series."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fewshot_automl.data.examples import Table, column_names, from_records
from fewshot_automl.errors import DataError

ROW = "row "
"""How the origin of a row in memory begins; rows are counted as the owner does."""


def comes_from(source: object, library: str) -> bool:
    """Say whether an object's class is a library's, without importing the library."""
    return any(
        kind.__module__.partition(".")[0] == library for kind in type(source).__mro__
    )


def read_frame(frame: Any) -> Table:
    """Return the table in a pandas DataFrame or Series."""
    origins = tuple(f"{ROW}{label}" for label in frame.index)
    if frame.ndim == 1:
        return _read_items(frame.tolist(), origins, "Series")
    names = column_names(frame.columns, "DataFrame")
    columns = {name: frame.iloc[:, i].tolist() for i, name in enumerate(names)}
    return Table(name="DataFrame", columns=columns, origins=origins)


def read_memory(source: object) -> Table:
    """Return the table in a list, an array, a mapping of columns or a list of rows."""
    if isinstance(source, Mapping):
        for name, cells in source.items():
            if not isinstance(cells, Iterable) or isinstance(cells, str):
                kind = type(cells).__name__
                raise DataError(f"Column must be a list of cells, got {kind} {name!r}.")
        names = column_names(source, "mapping")
        columns = dict(zip(names, map(list, source.values()), strict=True))
        lengths = {name: len(cells) for name, cells in columns.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"Columns must agree in length, got {lengths}.")
        origins = _rows(next(iter(lengths.values()), 0))
        return Table(name="mapping", columns=columns, origins=origins)
    if comes_from(source, "torch"):
        source = source.numpy(force=True)  # type: ignore[attr-defined]
    if isinstance(source, np.ndarray):
        return _read_items(_array_items(source), None, "array")
    if isinstance(source, bytes) or comes_from(source, "PIL"):  # one image
        source = [source]
    if isinstance(source, Iterable):
        return _read_items(list(source), None, type(source).__name__)
    raise DataError(
        "Data must be a file, a folder, a pandas DataFrame, a list or array, or a "
        f"datasets object, got {type(source).__name__}. Pass its rows as a list."
    )


def _rows(count: int) -> tuple[str, ...]:
    return tuple(f"{ROW}{row}" for row in range(count))


def _read_items(
    items: Sequence[Any], origins: tuple[str, ...] | None, name: str
) -> Table:
    origins = _rows(len(items)) if origins is None else origins
    rows = [item for item in items if isinstance(item, Mapping)]
    if len(rows) == len(items) and not all({"bytes", "path"} <= r.keys() for r in rows):
        return from_records(name, rows, origins)
    cells = [i.numpy(force=True) if comes_from(i, "torch") else i for i in items]
    return Table(name=name, columns={"input": cells}, origins=origins, is_named=False)


def _array_items(array: np.ndarray) -> list[object]:
    if array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1):
        items: list[object] = array.ravel().tolist()
        return items
    if array.ndim == 3 and array.shape[-1] in (1, 3, 4):
        return [array]  # one image; no batch of grey ones is so narrow
    if array.ndim == 4 or (array.ndim == 3 and array.shape[0] != 3):
        return list(array)
    raise DataError(
        "Array must be texts of shape [examples] or [examples, 1], or images of shape "
        "[examples, height, width] or [examples, height, width, 3], got shape "
        f"{list(array.shape)}. Choose one column of texts, reshape flat images, pass "
        "one grey image as [array], three as list(array), and one with channels first "
        "as array.transpose(1, 2, 0); tables of numbers are not supported yet."
    )
