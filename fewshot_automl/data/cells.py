"""What one cell of a table means: missing, a label, a text or an image."""

import math
import re
from collections.abc import Collection, Sequence
from pathlib import Path, PurePath
from typing import Final, Literal

import numpy as np
from PIL import Image, ImageOps

from fewshot_automl.errors import DataError
from fewshot_automl.inputs import Input

CellKind = Literal["empty", "image", "text", "number", "other"]

IMAGE_SUFFIXES: Final = frozenset(
    [
        ".avif",
        ".bmp",
        ".gif",
        ".jfif",
        ".jp2",
        ".jpeg",
        ".jpg",
        ".pbm",
        ".pgm",
        ".png",
        ".ppm",
        ".tif",
        ".tiff",
        ".webp",
    ]
)

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


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


def as_text(cell: object, origin: str) -> str:
    """Return the text in a cell; a missing one is empty, for the audit to find.

    Raises:
        DataError: If the cell holds neither text nor a number.
    """
    if is_missing(cell):
        return ""
    if isinstance(cell, (str, int, float, np.number, np.str_)):
        # Half of a character pair cannot be encoded, and no tokenizer takes it.
        return _SURROGATE.sub("\ufffd", str(cell))
    raise DataError(
        f"Text must be a string, got {type(cell).__name__} in {origin}. "
        "Choose another column with text (--text)."
    )


def as_image(cell: object, folder: Path | None, origin: str) -> Input:
    """Return the image in a cell: a path, encoded bytes or pixels.

    Args:
        cell: A path relative to `folder`, bytes, pixels, a Pillow image, or the
            mapping of bytes and path that `datasets` keeps.
        folder: What relative paths are relative to; None for the working folder.
        origin: Where the cell stands, for messages.

    Raises:
        DataError: If the cell holds no image.
    """
    if isinstance(cell, dict) and {"bytes", "path"} <= cell.keys():
        cell = cell["bytes"] if cell["bytes"] is not None else cell["path"]
    if isinstance(cell, bytes):
        return cell
    if isinstance(cell, PurePath) or (isinstance(cell, str) and cell.strip()):
        return _image_path(cell, folder)
    if isinstance(cell, Image.Image):
        return _pixels(cell)
    if isinstance(cell, np.ndarray):
        return cell
    raise DataError(
        f"Image must be a path, bytes, pixels or a Pillow image, got "
        f"{'nothing' if is_missing(cell) else type(cell).__name__} in {origin}. "
        "Fill in or remove the row."
    )


def _image_path(cell: str | PurePath, folder: Path | None) -> Path:
    path = (folder or Path()) / str(cell).strip()
    if not path.exists() and "\\" in str(cell):  # a table written on Windows
        return (folder or Path()) / str(cell).strip().replace("\\", "/")
    return path


def _pixels(picture: Image.Image) -> np.ndarray:
    picture = ImageOps.exif_transpose(picture)
    if picture.mode not in ("L", "RGB", "RGBA", "I;16", "I", "F"):
        alpha = picture.has_transparency_data
        picture = picture.convert("RGBA" if alpha else "RGB")
    return np.asarray(picture)


def kind_of(cells: Sequence[object]) -> CellKind:
    """Return what a column holds, judged by its first thousand filled cells.

    >>> kind_of(["7", "8.5", ""]), kind_of(["a.jpg", "b/c.PNG"]), kind_of(["so", "7"])
    ('number', 'image', 'text')
    """
    filled = [cell for cell in cells if not is_missing(cell)][:1000]
    if not filled:
        return "empty"
    if all(map(_holds_image, filled)):
        return "image"
    if all(isinstance(cell, str) for cell in filled):
        texts = [str(cell) for cell in filled]
        if sum(
            PurePath(t).suffix.lower() in IMAGE_SUFFIXES for t in texts
        ) >= 0.9 * len(texts):
            return "image"
        if sum(number(text) is not None for text in texts) >= 0.95 * len(texts):
            return "number"
        return "text"
    if all(isinstance(cell, (int, float, np.number, np.bool_)) for cell in filled):
        return "number"
    return "other"


def _holds_image(cell: object) -> bool:
    if isinstance(cell, dict):
        return {"bytes", "path"} <= cell.keys()
    if isinstance(cell, np.ndarray):
        return cell.ndim >= 2
    return isinstance(cell, (bytes, PurePath, Image.Image))
