"""Images: files, encoded bytes or pixels; shown as a viewer does, on white, whole."""

import contextlib
import io
import os
import re
import struct
import warnings
import zlib
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import Final

import numpy as np
from PIL import Image, ImageOps

from fewshot_automl.cells import is_missing
from fewshot_automl.errors import DataError
from fewshot_automl.finding import Finding, Severity, counted
from fewshot_automl.modalities.modality import Input, Look, content_hash

_HEIC_SUFFIXES: Final = frozenset([".heic", ".heif", ".hif"])
IMAGE_SUFFIXES: Final = _HEIC_SUFFIXES | {
    *(".apng", ".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg"),
    *(".jpg", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif"),
    *(".tiff", ".webp"),
}
TINY: Final = 8
"""An image with a side of fewer pixels shows next to nothing."""
DARK: Final = 16
"""An image without a brighter value of 255 shows next to nothing: 10 or 12 bits kept
in 16, or the class numbers of a mask."""
PREVIEW: Final = 64
"""Longest side of an image in a report, which holds some twenty of them."""
MAX_PIXELS: Final = 64_000_000
"""An image with more pixels is refused before it is decoded (decompression bombs);
a JPEG is decoded reduced, and those are counted."""

_SIXTEEN: Final = "pixels from 0 to 65,535"
_UNKNOWN: Final = "stretched image"
_ODD: Final[dict[str, tuple[Severity, str]]] = {
    "tiny image": ("warning", f"with a side under {TINY} pixels: little to see."),
    "dark image": ("warning", "nearly black. If few of 16 bits are used, scale them."),
    "several frames": ("note", "with several frames or pages: the first is read."),
    _UNKNOWN: (
        "note",
        "of 32-bit or floating-point pixels without a known range: each is stretched "
        "from its lowest value (black) to its highest (white).",
    ),
}
"""What may be odd about a readable image: how bad it is, and in words."""

_DECODING: Final = (
    *(OSError, SyntaxError, ValueError, TypeError, EOFError, LookupError),
    *(ArithmeticError, RuntimeError, struct.error, zlib.error),
    Image.DecompressionBombError,
)
"""What Pillow raises for files that are cut short or damaged."""
_HEIC: Final = re.compile(rb".{4}ftyp.{0,56}?(hei[cxms]|hev[cxms])", re.DOTALL)
_MAGIC: Final = (
    (_HEIC, "HEIC, and damaged"),
    (re.compile(rb"II\*\0|MM\0\*"), "a TIFF of a kind that Pillow cannot read"),
    (re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE), "a web page"),
    (re.compile(rb"version https://git-lfs"), "a pointer of Git LFS, not the file"),
    (re.compile(rb".{4}ftyp", re.DOTALL), "a video"),
    (re.compile(b""), "no image, or of an unknown format"),
)
"""How files begin that stand where an image should; the last is any other."""


class ImageModality:
    """Reads images; see `Modality`."""

    name = "image"
    plural = "images"
    unusable = "unreadable image"
    is_fault_an_error = True
    preference = "the first column of images"
    augmentations: tuple[str, ...] = ("none", "light")
    blocks: tuple[str, ...] = ("last",)
    efficiency = 0.25
    """The depthwise convolutions of small encoders are far from matrix products."""
    first_trained: tuple[str, ...] = ("partial_freeze", "contrastive")
    """On some sets the contrastive loss lowered test accuracy: decision 0028."""

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
        if is_missing(cell):
            return b""  # the audit finds it, as it finds an empty text
        if isinstance(cell, Image.Image):
            cell = _pixels(cell, origin)
        if isinstance(cell, np.ndarray):
            return _checked(cell, origin)
        if isinstance(cell, bytes):
            return cell
        if isinstance(cell, (PurePath, str)):
            cell = cell.strip() if isinstance(cell, str) else cell
            path = (folder or Path()) / cell
            if "\\" in str(cell) and not path.exists():  # a table written on Windows
                path = (folder or Path()) / str(cell).replace("\\", "/")
            return path
        raise DataError(
            "Image must be a path, bytes, pixels or a Pillow image, got "
            f"{type(cell).__name__} in {origin}. Replace or remove the row."
        )

    def worth(self, name: str, cells: Sequence[object]) -> tuple[float, ...]:
        """Return the same for all: the first column is taken."""
        return ()

    def look(self, inputs: Sequence[Input]) -> tuple[Look, ...]:
        """Decode every image once and return what was seen."""
        with warnings.catch_warnings():
            # Pillow warns of odd metadata and large sizes; we judge those ourselves.
            warnings.simplefilter("ignore")
            with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
                return tuple(pool.map(_look, inputs))

    def findings(
        self, inputs: Sequence[Input], looks: Sequence[Look], origins: Sequence[str]
    ) -> list[Finding]:
        """Return what is odd about readable images, and how pixels were scaled."""
        groups: dict[str, list[str]] = defaultdict(list)
        for look, origin in zip(looks, origins, strict=True):
            for kind in look.oddities:
                groups[kind].append(origin)
        found = []
        for kind, places in groups.items():
            severity, words = _ODD.get(kind, ("note", f"with {kind}, read as 8 bits."))
            message = f"{counted(len(places), 'image')} {words}"
            found.append(Finding.at(kind, severity, message, places))
        return found

    def preview(self, item: Input) -> bytes:
        """Return the image in a JPEG of at most `PREVIEW` pixels a side."""
        small, encoded = open_image(item), io.BytesIO()
        small.thumbnail((PREVIEW, PREVIEW))
        small.save(encoded, "JPEG", quality=80)
        return encoded.getvalue()


def open_image(image: Input | Image.Image, side: int = 448) -> Image.Image:
    """Decode an image to upright RGB, as a viewer shows it; transparency is white.

    A JPEG is decoded reduced if its shorter side stays at least `side` pixels.

    Raises:
        DataError: If it cannot be decoded whole, or has over `MAX_PIXELS` pixels.
    """
    try:
        return _shown(_opened(image, side))
    except _DECODING as error:
        name = image if isinstance(image, Path) else "an image in memory"
        raise DataError(
            f"Image must be one that Pillow can decode, got {name} ({_fault(error)}). "
            "Replace or remove it."
        ) from error


def _opened(image: Input | Image.Image, side: int = 448) -> Image.Image:
    if isinstance(image, Image.Image):
        _check_size(*image.size)
        return image
    if isinstance(image, np.ndarray):
        _check_size(image.shape[1], image.shape[0])
        return Image.fromarray(_eight_bits(image))
    encoded = image if isinstance(image, bytes) else Path(image).read_bytes()
    if not encoded:
        raise ValueError("it is empty")
    is_heic = _HEIC.match(encoded)
    if is_heic:
        try:
            from pillow_heif import register_heif_opener
        except ImportError as error:
            advice = "pip install 'fewshot-automl[heic]'"
            raise ValueError(f"it is HEIC, which needs: {advice}") from error
        register_heif_opener()
    try:
        picture = Image.open(io.BytesIO(encoded))
    except (OSError, ValueError, RuntimeError) as error:
        kind = next(kind for begin, kind in _MAGIC if begin.match(encoded))
        raise ValueError(f"it is {kind}") from error
    suffix = image.suffix if isinstance(image, Path) else ""
    if suffix.lower() in _HEIC_SUFFIXES and not is_heic:
        raise ValueError(f"it is {picture.format} and not HEIC: correct its suffix")
    picture.draft(None, (side, side))  # of no effect but for JPEG
    _check_size(*picture.size)
    picture.load()
    return picture


def _shown(picture: Image.Image) -> Image.Image:
    with contextlib.suppress(*_DECODING):  # a viewer passes over damaged EXIF too
        picture = ImageOps.exif_transpose(picture)
    if picture.mode[0] in "IF":
        pixels, clear = np.asarray(picture), picture.info.get("transparency")
        bits = _eight_bits(pixels)
        picture = Image.fromarray(np.where(pixels == clear, np.uint8(255), bits))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
    picture = _in_srgb(picture)
    if picture.mode == "RGBA":
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def _in_srgb(picture: Image.Image) -> Image.Image:
    encoded = picture.info.get("icc_profile") or b""
    if not encoded and picture.mode != "LAB":
        return picture
    from PIL import ImageCms

    mode = "RGBA" if picture.mode == "RGBA" else "RGB"
    plain = picture.convert("RGB") if picture.mode == "P" else picture
    source = io.BytesIO(encoded) if encoded else ImageCms.createProfile("LAB")
    # A viewer passes over a damaged profile too.
    with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError):
        profile = ImageCms.ImageCmsProfile(source)
        if "sRGB" not in ImageCms.getProfileDescription(profile):
            srgb = ImageCms.createProfile("sRGB")
            changed = ImageCms.profileToProfile(plain, profile, srgb, outputMode=mode)
            return changed or plain
    return plain


def _range_of(pixels: np.ndarray) -> tuple[float, float, str]:
    """Return the values of black and white, and what to call them in the audit.

    It is found from the type and this image alone, so that what is said of an image
    never depends on its neighbours.
    """
    if pixels.dtype == np.uint8:
        return 0.0, 255.0, ""
    kind, low, high = pixels.dtype.kind, float(pixels.min()), float(pixels.max())
    if kind == "b" or (kind == "f" and low >= -0.01 and high <= 1.01):
        return 0.0, 1.0, "pixels from 0 to 1"
    if pixels.dtype.str[1:] == "u2":
        return 0.0, 65535.0, _SIXTEEN
    # Floats up to 16 are neither from 0 to 1 nor, unless nearly black, from 0 to 255.
    if low >= -0.5 and high <= 255.5 and (kind != "f" or high > DARK):
        return 0.0, 255.0, "pixels from 0 to 255"
    if kind in "iu" and low >= 0 and high <= 65535:
        return 0.0, 65535.0, _SIXTEEN
    finite = pixels[np.isfinite(pixels)]
    ends = (finite.min(), finite.max()) if finite.size else (0, 1)
    return float(ends[0]), float(ends[1]), _UNKNOWN


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    low, high, _ = _range_of(pixels)
    scaled = (pixels.astype(np.float32) - low) * (255 / ((high - low) or 1))
    return np.asarray(np.nan_to_num(scaled).round().clip(0, 255), np.uint8)


def _checked(array: np.ndarray, origin: str) -> np.ndarray:
    """Return an array of one image, unless its shape or range leaves a doubt."""
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
    if not array.size or array.dtype == np.uint8:
        return array
    name, high = _range_of(array)[2], array.max()
    is_deep = array.dtype.str[1:] == "u2" and not 0 < high < 256  # else 8 bits, or dark
    if name == _UNKNOWN or (name == _SIXTEEN and not is_deep):
        raise DataError(
            "Pixels must lie between 0 and 255, for floats also between 0 and 1, for "
            f"uint16 between 0 and 65,535, got {array.dtype} from {array.min():g} to "
            f"{high:g} in {origin}. Undo any normalisation, and pass uint8 from 0 to "
            "255 if in doubt."
        )
    return array


def _is_image(cell: object) -> bool:
    if isinstance(cell, dict):
        return {"bytes", "path"} <= cell.keys()
    if isinstance(cell, np.ndarray):
        return cell.ndim >= 2
    return isinstance(cell, (bytes, PurePath, Image.Image))


def _pixels(picture: Image.Image, origin: str) -> np.ndarray:
    """Return a picture as it is shown; of numbers without a range, the numbers."""
    try:
        return np.asarray(picture if picture.mode in ("I", "F") else _shown(picture))
    except _DECODING as error:
        raise DataError(
            f"Picture must be one that Pillow can load, got {_fault(error)} in "
            f"{origin}. Replace or remove it."
        ) from error


def _look(image: Input) -> Look:
    try:
        picture = _opened(image)
        shown = np.asarray(_shown(picture))
        raw = np.asarray(picture) if picture.mode[0] in "IF" else image
        scaled = _range_of(raw)[2] if isinstance(raw, np.ndarray) else ""
    except _DECODING as error:
        return Look(fault=_fault(error))
    seen = {
        "tiny image": min(shown.shape[:2]) < TINY,
        "dark image": shown.max() <= DARK,
        "several frames": getattr(picture, "is_animated", False)
        and picture.format != "MPO",  # a photograph with its preview
        scaled: bool(scaled),
    }
    oddities = tuple(kind for kind, is_so in seen.items() if is_so)
    return Look(key=content_hash(shown), oddities=oddities)


def _fault(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(said.split())


def _check_size(width: int, height: int) -> None:
    if not width * height:
        raise ValueError("it has no pixels")
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels are more than {MAX_PIXELS:,}")
