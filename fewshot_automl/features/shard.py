"""One file of rows: written whole or not at all, checked before it is believed.

A shard is a plain safetensors file. Tensor ``3:hidden`` is the array ``hidden`` of
its fourth row; the metadata names the group and the rows' keys and holds a checksum
of everything. Files are written under another name and renamed, so a reader never
sees half of one; their names are unique, so two writers never meet.
"""

import hashlib
import json
import mmap
import os
import uuid
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import save

from fewshot_automl.errors import ShapeError

Row = dict[str, np.ndarray]
"""One example's activations, e.g. ``{"hidden": [tokens, width]}``."""

SUFFIX: Final = ".safetensors"
UNFINISHED: Final = ".part"
"""Ends the name of a shard that is still being written."""

_FORMAT: Final = "fewshot-features-1"
_MAX_HEADER_BYTES: Final = 100_000_000
_DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "BOOL": np.dtype("bool"),
    "U8": np.dtype("uint8"),
    "I8": np.dtype("int8"),
    "I16": np.dtype("<i2"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}
_KNOWN: Final = frozenset(_DTYPES.values())

MAP_FROM_BYTES: Final = 1_000_000
"""A smaller shard is read into memory; a map costs an open file each."""
MAX_MAPS: Final = 256
"""Shards mapped at once in a process; the usual limit is 1,024 open files."""
_maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


class DamagedShard(Exception):
    """A file that is not a whole, unchanged shard of the group it lies in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """Tells whether a file is still the one that was checked."""

    size_bytes: int
    inode: int
    changed: int

    @classmethod
    def of(cls, path: Path) -> "Stamp":
        """Return the stamp of a file.

        Raises:
            OSError: If it is gone.
        """
        found = path.stat()
        return cls(
            size_bytes=found.st_size, inode=found.st_ino, changed=found.st_mtime_ns
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Says what a shard holds and where in the file."""

    keys: tuple[str, ...]
    """Content hashes of its rows, in order."""
    checksum: str
    """Hash of all names, types, shapes and bytes."""
    tensors: Mapping[str, Mapping[str, Any]]
    """The safetensors header, without its metadata."""
    starts_at: int
    """First byte after the header."""


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


def row_bytes(rows: Sequence[Row]) -> int:
    """Return what the arrays of some rows weigh."""
    return sum(values.nbytes for row in rows for values in row.values())


def packed(group: str, keys: Sequence[str], rows: Sequence[Row]) -> bytes:
    """Return the bytes of a shard file."""
    arrays = {
        f"{position}:{name}": values
        for position, row in enumerate(rows)
        for name, values in row.items()
    }
    content: bytes = save(
        arrays,
        metadata={
            "format": _FORMAT,
            "group": group,
            "keys": json.dumps(list(keys)),
            "checksum": _checksum(group, keys, arrays),
        },
    )
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


def read_header(path: Path, group: str) -> Header:
    """Return a shard's header; its rows are neither read nor checked.

    Raises:
        OSError: If the file is gone.
        DamagedShard: If it is cut short or not a shard of this group.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > min(_MAX_HEADER_BYTES, size - 8):
            raise DamagedShard("the header is cut short")
        text = file.read(length)
    try:
        tensors = json.loads(text)
        metadata = tensors.pop("__metadata__")
        keys = tuple(json.loads(metadata["keys"]))
        ends_at = max(
            (int(info["data_offsets"][1]) for info in tensors.values()), default=0
        )
        found = (metadata["format"], metadata["group"])
        checksum = metadata["checksum"]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise DamagedShard("the header cannot be read") from error
    if found != (_FORMAT, group):
        raise DamagedShard("it belongs to another format or group")
    if not all(isinstance(key, str) for key in keys):
        raise DamagedShard("its keys are not texts")
    if 8 + length + ends_at != size:
        raise DamagedShard(f"it has {size} bytes instead of {8 + length + ends_at}")
    return Header(keys=keys, checksum=checksum, tensors=tensors, starts_at=8 + length)


def read(path: Path, group: str) -> tuple[tuple[str, ...], list[Row], int]:
    """Return a shard's keys and rows, and the bytes of memory they hold.

    Large shards are mapped: their rows are read-only views of the file's pages,
    which all processes share, and count as no memory.

    Raises:
        OSError: If the file is gone.
        DamagedShard: If the checksum is not that of the content.
    """
    header = read_header(path, group)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        is_mapped = size >= MAP_FROM_BYTES and len(_maps) < MAX_MAPS
        buffer: bytes | mmap.mmap
        if is_mapped:
            buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            _maps.add(buffer)
        else:
            buffer = file.read()
    rows: list[Row] = [{} for _ in header.keys]
    arrays: Row = {}
    try:
        for name, info in header.tensors.items():
            first, last = info["data_offsets"]
            values: np.ndarray = np.ndarray(
                tuple(info["shape"]),
                _DTYPES[info["dtype"]],
                buffer,
                header.starts_at + first,
            )
            if values.nbytes != last - first:
                raise DamagedShard(f"the size of {name!r} is wrong")
            arrays[name] = values
            position, _, field = name.partition(":")
            rows[int(position)][field] = values
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DamagedShard("its content cannot be read") from error
    if _checksum(group, header.keys, arrays) != header.checksum:
        raise DamagedShard("its checksum is wrong")
    return header.keys, rows, 0 if is_mapped else size


def _checksum(group: str, keys: Sequence[str], arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([group, list(keys)]).encode())
    for name in sorted(arrays):
        values = arrays[name]
        digest.update(f"\0{name}\0{values.dtype.str}{values.shape}\0".encode())
        digest.update(values.reshape(-1).view(np.uint8).data if values.size else b"")
    return digest.hexdigest()
