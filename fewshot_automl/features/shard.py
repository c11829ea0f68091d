"""One file of rows: written whole or not at all, checked before it is believed.

A shard is a plain safetensors file. Tensor ``3:hidden`` is the array ``hidden`` of
its fourth row; the metadata names the group and the rows' keys and holds a checksum
of everything. Files are written under another name and renamed, so a reader never
sees half of one; their names are unique, so two writers never meet.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from fewshot_automl.errors import ShapeError

Row = dict[str, np.ndarray]
"""One example's activations, e.g. ``{"hidden": [tokens, width]}``."""
Stamp = tuple[int, int, int]
"""Size, inode and time of change: tells whether a file is still the one checked."""

SUFFIX: Final = ".safetensors"
UNFINISHED: Final = ".part"
"""Ends the name of a shard that is still being written."""
_FORMAT: Final = "fewshot-features-1"
_KNOWN: Final = frozenset(
    map(np.dtype, ("?", "u1", "i1", "<i2", "<i4", "<i8", "<f2", "<f4", "<f8"))
)


class DamagedShard(Exception):
    """A file that is not a whole, unchanged shard of the group it lies in."""


def stamp_of(path: Path) -> Stamp:
    """Return the stamp of a file.

    Raises:
        OSError: If it is gone.
    """
    found = path.stat()
    return found.st_size, found.st_ino, found.st_mtime_ns


def checked(row: Mapping[str, np.ndarray]) -> Row:
    """Return an own, read-only copy of a row, so that no batch is kept alive by it.

    Raises:
        ShapeError: If an array's dtype has no place in a shard (bfloat16 has none
            in numpy: store float16 or float32).
    """
    own: Row = {}
    for name, values in row.items():
        if values.dtype not in _KNOWN:
            raise ShapeError(
                f"Activations {name!r} must be bool, an integer up to 64 bits, "
                f"float16, float32 or float64, got {values.dtype}. Convert them first."
            )
        own[name] = np.array(values, order="C", copy=True)
        own[name].flags.writeable = False
    return own


def packed(group: str, keys: Sequence[str], rows: Sequence[Row]) -> bytes:
    """Return the bytes of a shard file."""
    arrays = {
        f"{position}:{name}": values
        for position, row in enumerate(rows)
        for name, values in row.items()
    }
    metadata = {
        "format": _FORMAT,
        "group": group,
        "keys": json.dumps(list(keys)),
        "checksum": _checksum(group, keys, arrays),
    }
    content: bytes = save(arrays, metadata=metadata)
    return content


def write(folder: Path, content: bytes) -> Path:
    """Write a shard into a folder under a new name and return its path.

    Raises:
        OSError: If the disk is full or may not be written; nothing is left behind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{uuid.uuid4().hex}{SUFFIX}"
    unfinished = path.with_suffix(UNFINISHED)
    try:
        with unfinished.open("xb") as file:
            file.write(content)
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    return path


def read_keys(path: Path, group: str) -> tuple[str, ...]:
    """Return the keys of a shard's rows; these are neither read nor checked.

    Raises:
        OSError: If the file is gone.
        DamagedShard: If it is cut short or not a shard of this group.
    """
    return _header(path, group)[0]


def _header(path: Path, group: str) -> tuple[tuple[str, ...], str]:
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
        keys = tuple(map(str, json.loads(metadata["keys"])))
        found = metadata["format"], metadata["group"]
        checksum = metadata["checksum"]
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise DamagedShard("the header cannot be read") from error
    if found != (_FORMAT, group):
        raise DamagedShard("it belongs to another format or group")
    return keys, checksum


def read(path: Path, group: str) -> dict[str, Row]:
    """Return a shard's read-only rows by their keys.

    Raises:
        OSError: If the file is gone.
        DamagedShard: If the checksum is not that of the content.
    """
    keys, checksum = _header(path, group)
    rows: list[Row] = [{} for _ in keys]
    try:
        arrays = load_file(path)
        for name, values in arrays.items():
            values.flags.writeable = False
            position, _, field = name.partition(":")
            rows[int(position)][field] = values
    except (SafetensorError, ValueError, IndexError) as error:
        raise DamagedShard("its content cannot be read") from error
    if _checksum(group, keys, arrays) != checksum:
        raise DamagedShard("its checksum is wrong")
    return dict(zip(keys, rows, strict=True))


def _checksum(group: str, keys: Sequence[str], arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([group, list(keys)]).encode())
    for name in sorted(arrays):
        values = arrays[name]
        digest.update(f"\0{name}\0{values.dtype.str}{values.shape}\0".encode())
        digest.update(values.reshape(-1).view(np.uint8).data if values.size else b"")
    return digest.hexdigest()
