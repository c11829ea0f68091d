"""What one example is, whatever room looks at it: a text or an image.

Data rooms audit them, backbones preprocess them, the store keys on their content;
none of those rooms knows another, so what they share stands here.
"""

import hashlib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fewshot_automl.errors import DataError

Input = str | Path | bytes | np.ndarray
"""A text (`str`), an image file (`Path`), an encoded image (`bytes`), or pixels
(`uint8` of shape `[height, width]`, `[height, width, 3]` or `[height, width, 4]`)."""

MAX_PIXELS: Final = 64_000_000
"""An image with more pixels is refused before it is decoded (decompression bombs)."""


def open_image(image: Path | bytes | np.ndarray) -> Image.Image:
    """Decode an image to upright RGB; transparency becomes white.

    Args:
        image: A file, an encoded image or pixels; see `Input`.

    Raises:
        DataError: If it cannot be decoded whole, or has over `MAX_PIXELS` pixels.
    """
    name = str(image) if isinstance(image, Path) else "an image in memory"
    try:
        if isinstance(image, np.ndarray):
            picture = Image.fromarray(image)
        else:
            encoded = image if isinstance(image, bytes) else image.read_bytes()
            picture = Image.open(io.BytesIO(encoded))
        if picture.width * picture.height > MAX_PIXELS:
            raise DataError(
                f"Image must have at most {MAX_PIXELS:,} pixels, got "
                f"{picture.width} x {picture.height} in {name}. Shrink it first."
            )
        picture.load()
        picture = ImageOps.exif_transpose(picture)
    except DataError:
        raise
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        SyntaxError,
        ValueError,
        TypeError,
    ) as error:
        raise DataError(
            f"Image must be one that Pillow can decode, got {name} ({error}). "
            "Replace or remove it."
        ) from error
    return _on_white(picture)


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


def content_hash(item: Input) -> str:
    """Return a hash of what an example holds, not of where it lies.

    >>> content_hash("good") == content_hash("good"), len(content_hash("good"))
    (True, 32)
    """
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(item, str):
        digest.update(b"text\0" + item.encode("utf-8", "surrogatepass"))
    elif isinstance(item, os.PathLike):
        digest.update(b"image\0" + Path(item).read_bytes())
    elif isinstance(item, bytes):
        digest.update(b"image\0" + item)
    else:
        digest.update(f"pixels\0{item.shape}{item.dtype}".encode())
        digest.update(np.ascontiguousarray(item).tobytes())
    return digest.hexdigest()


def content_hashes(items: Sequence[Input]) -> tuple[str, ...]:
    """Return `content_hash` of each example."""
    return tuple(content_hash(item) for item in items)
