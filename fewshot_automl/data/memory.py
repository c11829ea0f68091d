"""Data in memory: lists, arrays, mappings of columns, pandas frames and series."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fewshot_automl.data.examples import Table, from_records
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
    names = [str(name) for name in frame.columns]
    if len(set(names)) != len(names):
        raise DataError(f"Column names must be distinct, got {names}. Rename one.")
    columns = {name: frame.iloc[:, i].tolist() for i, name in enumerate(names)}
    return Table(name="DataFrame", columns=columns, origins=origins)


def read_memory(source: object) -> Table:
    """Return the table in a list, an array, a mapping of columns or a list of rows."""
    if isinstance(source, Mapping):
        for name, cells in source.items():
            if not isinstance(cells, Iterable) or isinstance(cells, str):
                kind = type(cells).__name__
                raise DataError(f"Column must be a list of cells, got {kind} {name!r}.")
        columns = {str(name): list(cells) for name, cells in source.items()}
        lengths = {name: len(cells) for name, cells in columns.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"Columns must agree in length, got {lengths}.")
        origins = _rows(next(iter(lengths.values()), 0))
        return Table(name="mapping", columns=columns, origins=origins)
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
    items: Sequence[object], origins: tuple[str, ...] | None, name: str
) -> Table:
    """Return a table of one column of inputs, or of rows that name their cells."""
    origins = _rows(len(items)) if origins is None else origins
    rows = [item for item in items if isinstance(item, Mapping)]
    if len(rows) == len(items) and not all({"bytes", "path"} <= r.keys() for r in rows):
        return from_records(name, rows, origins)
    cells, notes = _as_cells(items, origins)
    columns = {"input": cells}
    return Table(
        name=name, columns=columns, origins=origins, is_named=False, notes=notes
    )


def _array_items(array: np.ndarray) -> list[object]:
    if array.ndim == 1:
        items: list[object] = array.tolist()
        return items
    if array.ndim in (3, 4):
        return list(array)
    raise DataError(
        "Array must be texts of shape [examples] or images of shape [examples, "
        f"height, width] or [examples, height, width, 3], got {array.shape}. Reshape "
        "flat images first; tables of numbers are not supported yet."
    )


def _as_cells(
    items: Sequence[object], origins: Sequence[str]
) -> tuple[list[object], tuple[str, ...]]:
    """Return cells with arrays as 8-bit pixels, and what was inferred on the way."""
    items = [np.asarray(item) if comes_from(item, "torch") else item for item in items]
    arrays = [item for item in items if isinstance(item, np.ndarray) and item.size]
    is_float = any(np.issubdtype(item.dtype, np.floating) for item in arrays)
    top = max((float(item.max()) for item in arrays), default=0.0) if is_float else 0.0
    scale = 255.0 if is_float and top <= 1.0 else 1.0
    cells = [
        _pixels(item, scale, origin) if isinstance(item, np.ndarray) else item
        for item, origin in zip(items, origins, strict=True)
    ]
    if not is_float:
        return cells, ()
    return cells, (f"Pixels: numbers from 0 to {255 / scale:g}, read as 8 bits.",)


def _pixels(array: np.ndarray, scale: float, origin: str) -> np.ndarray:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (3, 4)):
        raise DataError(
            "Image array must have shape [height, width], [height, width, 3] or "
            f"[height, width, 4], got {list(array.shape)} in {origin}. If channels "
            "come first, use array.transpose(1, 2, 0)."
        )
    if array.dtype.kind not in "buif":
        raise DataError(f"Pixels must be numbers, got {array.dtype} in {origin}.")
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    values = array.astype(np.float64) * scale
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 255.5:
        raise DataError(
            "Pixels must lie between 0 and 1 or between 0 and 255, got "
            f"{array.min():g} to {array.max():g} in {origin}. Undo any normalisation."
        )
    return values.round().clip(0, 255).astype(np.uint8)
