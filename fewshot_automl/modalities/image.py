"""Images: files, encoded bytes or pixels; decoded upright, on white, whole."""

import hashlib
import io
import os
import struct
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fewshot_automl.cells import is_missing
from fewshot_automl.errors import DataError
from fewshot_automl.finding import Finding, counted
from fewshot_automl.modalities.modality import Input, Look, content_hash

IMAGE_SUFFIXES: Final = frozenset(
    [
        *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg"),
        *(".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"),
    ]
)
TINY: Final = 8
"""An image with a side of fewer pixels shows next to nothing."""
PREVIEW: Final = 64
"""Longest side of an image in a report, which holds some twenty of them."""
MAX_PIXELS: Final = 64_000_000
"""An image with more pixels is refused before it is decoded (decompression bombs)."""
_DRAFT_PIXELS: Final = 2_000_000
"""A larger JPEG is decoded at an eighth of its size, which still reads every byte."""

_DECODING: Final = (OSError, SyntaxError, ValueError, TypeError)
"""What Pillow raises for files that are cut short or damaged."""


class ImageModality:
    """Reads images; see `Modality`."""

    name = "image"
    plural = "images"
    unusable = "unreadable image"
    is_fault_an_error = True
    preference = "the first column of images"
    augmentations: tuple[str, ...] = ("none", "light")
    efficiency = 0.25
    """The depthwise convolutions of small encoders are far from matrix products."""

    def holds(self, cells: Sequence[object]) -> bool:
        """Say whether cells are images, or paths most of which end as images do."""
        if all(map(_is_image, cells)):
            return True
        if not all(isinstance(cell, str) for cell in cells):
            return False
        suffixes = [PurePath(str(cell)).suffix.lower() for cell in cells]
        return sum(s in IMAGE_SUFFIXES for s in suffixes) >= 0.9 * len(cells)

    def read(self, cell: object, folder: Path | None, origin: str) -> Input:
        """Return a path, encoded bytes or pixels."""
        if isinstance(cell, dict) and {"bytes", "path"} <= cell.keys():
            cell = cell["bytes"] if cell["bytes"] is not None else cell["path"]
        if isinstance(cell, (bytes, np.ndarray)):
            return cell
        if isinstance(cell, Image.Image):
            return _pixels(cell)
        if isinstance(cell, PurePath) or (isinstance(cell, str) and cell.strip()):
            path = (folder or Path()) / str(cell).strip()
            if not path.exists() and "\\" in str(cell):  # a table written on Windows
                path = (folder or Path()) / str(cell).strip().replace("\\", "/")
            return path
        raise DataError(
            f"Image must be a path, bytes, pixels or a Pillow image, got "
            f"{'nothing' if is_missing(cell) else type(cell).__name__} in {origin}. "
            "Fill in or remove the row."
        )

    def length(self, item: Input) -> float:
        """Return 0: a backbone makes all images one size."""
        return 0.0

    def look(self, inputs: Sequence[Input]) -> tuple[Look, ...]:
        """Decode every image once, the header first, and return what was seen."""
        with warnings.catch_warnings():
            # Pillow warns of odd metadata and large sizes; we judge those ourselves.
            warnings.simplefilter("ignore")
            with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
                return tuple(pool.map(_look, inputs))

    def findings(
        self, inputs: Sequence[Input], looks: Sequence[Look], origins: Sequence[str]
    ) -> list[Finding]:
        """Return a warning that names the images too small to show anything."""
        tiny = [at for at, look in zip(origins, looks, strict=True) if look.is_tiny]
        message = (
            f"{counted(len(tiny), 'image')} with a side under {TINY} pixels: there is "
            "next to nothing to see."
        )
        return Finding.any_at("tiny image", "warning", message, tiny)

    def preview(self, item: Input) -> bytes:
        """Return the image in a JPEG of at most `PREVIEW` pixels a side."""
        small, encoded = open_image(item), io.BytesIO()  # type: ignore[arg-type]
        small.thumbnail((PREVIEW, PREVIEW))
        small.save(encoded, "JPEG", quality=80)
        return encoded.getvalue()


def open_image(image: Path | bytes | np.ndarray) -> Image.Image:
    """Decode an image to upright RGB; transparency becomes white.

    Raises:
        DataError: If it cannot be decoded whole, or has over `MAX_PIXELS` pixels.
    """
    try:
        if isinstance(image, np.ndarray):
            picture = Image.fromarray(image)
        else:
            encoded = image if isinstance(image, bytes) else image.read_bytes()
            picture = Image.open(io.BytesIO(encoded))
        _check_size(*picture.size)
        picture.load()
        return _on_white(ImageOps.exif_transpose(picture))
    except (Image.DecompressionBombError, *_DECODING) as error:
        name = image if isinstance(image, Path) else "an image in memory"
        raise DataError(
            f"Image must be one that Pillow can decode, got {name} ({error}). "
            "Replace or remove it."
        ) from error


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode in ("I;16", "I", "F"):  # 16-bit grey and floats: stretch to 8 bits
        pixels = np.asarray(picture, dtype=np.float64)
        top = 65535.0 if picture.mode == "I;16" else max(float(pixels.max()), 1.0)
        picture = Image.fromarray((pixels / top * 255).clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def _is_image(cell: object) -> bool:
    if isinstance(cell, dict):
        return {"bytes", "path"} <= cell.keys()
    if isinstance(cell, np.ndarray):
        return cell.ndim >= 2
    return isinstance(cell, (bytes, PurePath, Image.Image))


def _pixels(picture: Image.Image) -> np.ndarray:
    picture = ImageOps.exif_transpose(picture)
    if picture.mode not in ("L", "RGB", "RGBA", "I;16", "I", "F"):
        alpha = picture.has_transparency_data
        picture = picture.convert("RGBA" if alpha else "RGB")
    return np.asarray(picture)


def _look(image: Input) -> Look:
    try:
        if isinstance(image, np.ndarray):
            height, width = image.shape[:2]
            _check_size(width, height)
            return Look(key=content_hash(image), is_tiny=min(width, height) < TINY)
        source = io.BytesIO(image) if isinstance(image, bytes) else Path(image)
        with Image.open(source) as picture:
            width, height = picture.size
            _check_size(width, height)
            if picture.format == "JPEG" and width * height > _DRAFT_PIXELS:
                picture.draft("RGB", (width // 8, height // 8))
                picture.load()
                return Look(key=content_hash(image))
            picture.load()
            # Equal indices into palettes may mean other colours.
            is_palette = picture.mode in ("P", "PA")
            plain = picture.convert("RGBA") if is_palette else picture
            head = f"{width} x {height} {plain.mode}\0".encode()
            digest = hashlib.blake2b(head + plain.tobytes(), digest_size=16)
            return Look(key=digest.hexdigest(), is_tiny=min(width, height) < TINY)
    except FileNotFoundError:
        fault = "there is no such file"
    except UnidentifiedImageError:
        fault = "it is no image, or of an unknown format"
    except Image.DecompressionBombError:
        fault = f"it has more than {MAX_PIXELS:,} pixels"
    except (*_DECODING, EOFError, struct.error) as error:
        fault = str(error) or type(error).__name__
    return Look(fault=fault)


def _check_size(width: int, height: int) -> None:
    if not width * height:
        raise ValueError("it has no pixels")
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels are more than {MAX_PIXELS:,}")
