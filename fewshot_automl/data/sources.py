"""Where examples come from: tells one kind of source from another.

`datasets` is imported when one of its objects or a hub name is given and not before.
"""

import os
import re
from pathlib import Path
from typing import Any, Final

from fewshot_automl.data.examples import Table
from fewshot_automl.data.files import SUFFIXES, missing, read_file
from fewshot_automl.data.folders import choose_split, read_folder
from fewshot_automl.data.memory import ROW, comes_from, read_frame, read_memory
from fewshot_automl.errors import DataError
from fewshot_automl.modalities import IMAGE_SUFFIXES

Source = object
"""A path to a file or folder; a pandas DataFrame or Series; a list or array of texts
or images, a mapping of columns or a list of rows; a `datasets` object; or the name of
one on the Hugging Face hub (``hf:owner/name`` or ``hf:owner/name:config``)."""

_HUB: Final = "hf:"
_HUB_NAME: Final = re.compile(r"[\w-]+/[\w.-]+(:[\w.-]+)?", re.ASCII)


def read_table(
    source: Source, *, split: str | None = None, prefer: tuple[str, ...] = ("train",)
) -> Table:
    """Return the table of raw cells in any source.

    Of several splits `split` is read, or the first there is of those that `prefer`
    names.

    Raises:
        DataError: If the source is missing, empty, of no known kind or unreadable.
    """
    if isinstance(source, (str, os.PathLike)):
        table = _read_name(os.fsdecode(source), split, prefer)
    elif comes_from(source, "datasets"):
        table = _read_hub(source, type(source).__name__, split, prefer)
    else:
        _refuse_split(split, type(source).__name__)
        if hasattr(source, "to_pandas"):  # a table of Arrow, Polars, Modin
            source = source.to_pandas()
        is_frame = comes_from(source, "pandas") and hasattr(source, "iloc")
        table = read_frame(source) if is_frame else read_memory(source)
    if not len(table):
        raise DataError(f"Data must have at least one row, got none in {table.name}.")
    return table


def _refuse_split(split: str | None, source: str) -> None:
    if split is not None:
        raise DataError(
            f"Split must be left out for {source}, got {split!r}. Pass the rows, or "
            "the file, of one split."
        )


def _read_name(text: str, split: str | None, prefer: tuple[str, ...]) -> Table:
    if text.startswith(_HUB):
        return _load_hub(text.removeprefix(_HUB), split, prefer)
    path = Path(os.path.expanduser(text))  # noqa: PTH111  takes any text
    if os.path.isdir(path):  # noqa: PTH112  and so does this, a long one too
        return read_folder(path, split, prefer)
    if not os.path.exists(path):  # noqa: PTH110
        is_name = _HUB_NAME.fullmatch(path.as_posix()) and not _is_file_name(path)
        if not prefer or not is_name or path.parent.is_dir():  # no prefer: to predict
            raise DataError(missing(path))
        try:
            return _load_hub(text, split, prefer)
        except DataError as error:
            raise DataError(f"{missing(path)} As a hub name: {error}") from error
    _refuse_split(split, "a file")
    return read_file(path)


def names_source(text: str) -> bool:
    """Say whether a string names a file, a folder or a hub dataset, there or not."""
    is_there = os.path.exists(os.path.expanduser(text))  # noqa: PTH110, PTH111  any length
    return text.startswith(_HUB) or is_there or _is_file_name(Path(text))


def _is_file_name(path: Path) -> bool:
    return path.suffix.lower() in (*SUFFIXES, *IMAGE_SUFFIXES, ".xls", ".zip")


def _load_hub(name: str, split: str | None, prefer: tuple[str, ...]) -> Table:
    import datasets

    repository, _, config = name.partition(":")
    try:
        found = datasets.load_dataset(repository, config or None)
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"Hub dataset must be one that can be loaded, got {name!r} ({reason}). "
            "Check the name and the connection, or download it and pass the file."
        ) from error
    return _read_hub(found, name, split, prefer)


def _read_hub(
    found: Any, name: str, split: str | None, prefer: tuple[str, ...]
) -> Table:
    import datasets

    notes: tuple[str, ...] = ()
    if isinstance(found, datasets.DatasetDict):
        chosen = choose_split(list(found), name, split, prefer)
        notes = (f"Split: '{chosen}' of {', '.join(map(repr, found))}.",)
        found, name = found[chosen], f"{name}[{chosen}]"
    if not isinstance(found, datasets.Dataset):
        raise DataError(
            f"Dataset must be a datasets.Dataset or DatasetDict, got "
            f"{type(found).__name__}. Take its rows first: "
            "Dataset.from_list(list(stream.take(1000)))."
        )
    labels = {}
    for column, feature in found.features.items():
        if isinstance(feature, datasets.Image):  # bytes, not decoded pictures
            found = found.cast_column(column, datasets.Image(decode=False))
        elif isinstance(feature, datasets.ClassLabel):
            labels[column] = tuple(feature.names)
    columns = {column: list(found[column]) for column in found.column_names}
    for column, names in labels.items():  # the hub writes -1 for "not labelled"
        columns[column] = [
            names[cell] if cell is not None and cell >= 0 else None
            for cell in columns[column]
        ]
    target = next(iter(labels)) if len(labels) == 1 else None
    return Table(
        name=name,
        columns=columns,
        origins=tuple(f"{name} {ROW}{row}" for row in range(found.num_rows)),
        target=target,
        class_order=labels[target] if target is not None else (),
        notes=notes,
    )
