"""What to look for in images: files that cannot be decoded whole, absurd sizes."""

import hashlib
import io
import os
import struct
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from fewshot_automl.inputs import MAX_PIXELS, Input, content_hash

TINY: Final = 8
"""An image with a side of fewer pixels shows next to nothing."""

_DRAFT_PIXELS: Final = 2_000_000
"""A larger JPEG is decoded at an eighth of its size, which still reads every byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Says what one image turned out to be."""

    fault: str = ""
    """Why it cannot be used; empty if it can."""
    digest: str = ""
    """A hash of its pixels, or of its bytes where pixels were too many."""
    is_tiny: bool = False
    """Whether a side is shorter than `TINY`."""


def look_at(images: Sequence[Input]) -> tuple[Look, ...]:
    """Decode every image once, the header first, and return what was seen."""
    with warnings.catch_warnings():
        # Pillow warns of odd metadata and of large sizes; we judge those ourselves.
        warnings.simplefilter("ignore")
        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
            return tuple(pool.map(_look, images))


def _look(image: Input) -> Look:
    if isinstance(image, np.ndarray):
        is_tiny = min(image.shape[:2], default=0) < TINY
        if image.size == 0:
            return Look(fault="it has no pixels")
        if image.shape[0] * image.shape[1] > MAX_PIXELS:
            return Look(fault=_too_large(image.shape[1], image.shape[0]))
        return Look(digest=content_hash(image), is_tiny=is_tiny)
    try:
        source = io.BytesIO(image) if isinstance(image, bytes) else Path(image)
        with Image.open(source) as picture:
            return _decoded(picture, image)
    except FileNotFoundError:
        return Look(fault="there is no such file")
    except UnidentifiedImageError:
        return Look(fault="it is not an image, or of an unknown format")
    except Image.DecompressionBombError:
        return Look(fault=f"it has more than {MAX_PIXELS:,} pixels")
    except (
        OSError,
        SyntaxError,
        ValueError,
        TypeError,
        EOFError,
        struct.error,
    ) as error:
        return Look(fault=str(error) or type(error).__name__)


def _decoded(picture: Image.Image, image: Input) -> Look:
    width, height = picture.size
    if width * height > MAX_PIXELS:
        return Look(fault=_too_large(width, height))
    is_drafted = picture.format == "JPEG" and width * height > _DRAFT_PIXELS
    if is_drafted:
        picture.draft("RGB", (width // 8, height // 8))
    picture.load()
    if is_drafted:
        digest = content_hash(image)
    else:
        if picture.mode in ("P", "PA"):  # equal indices may mean other colours
            picture = picture.convert("RGBA")
        head = f"{width} x {height} {picture.mode}\0".encode()
        digest = hashlib.blake2b(head + picture.tobytes(), digest_size=16).hexdigest()
    return Look(digest=digest, is_tiny=min(width, height) < TINY)


def _too_large(width: int, height: int) -> str:
    return f"{width} x {height} pixels are more than {MAX_PIXELS:,}"
