"""What one example is, whatever room looks at it, and a hash of what it holds.

Data rooms audit examples, backbones preprocess them, the store keys on their content;
none of those rooms knows another, so what they share stands here.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

Input = str | Path | bytes | np.ndarray
"""A text (`str`), a file (`Path`), an encoded image (`bytes`), or an array: pixels
(`uint8` of shape `[height, width]`, `[height, width, 3]` or `[height, width, 4]`)."""


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
