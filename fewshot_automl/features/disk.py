"""The folder of shards: files of rows, written whole, checked before they are believed.

A shard is a plain safetensors file. Tensor ``3:hidden`` is the array ``hidden`` of
its fourth row; the metadata names the group and the rows' keys and holds a checksum
of everything. Files are written under another name and renamed, so a reader never
sees half of one; their names are unique, so two writers never meet.
"""

import hashlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from fewshot_automl.errors import ShapeError
from fewshot_automl.places import nearest

_log = logging.getLogger(__name__)

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
_TOUCH_SECONDS: Final = 60.0
"""A shard read again sooner is not marked again: marking costs a write."""
_ABANDONED_SECONDS: Final = 3600.0
"""An unfinished shard older than this was left by a process that was killed."""


class DamagedShard(Exception):
    """A file that is not a whole, unchanged shard of the group it lies in."""


def stamp_of(path: Path) -> Stamp:
    """Return the stamp of a file."""
    found = path.stat()
    return found.st_size, found.st_ino, found.st_mtime_ns


def checked(row: Mapping[str, np.ndarray]) -> Row:
    """Return an own, read-only copy of a row, so that no batch is kept alive by it."""
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
    """Write a shard under a new name and return its path; a failure leaves nothing."""
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


def read_header(path: Path, group: str) -> tuple[tuple[str, ...], str]:
    """Return the keys of a shard's rows, which are not read, and its checksum."""
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
    """Return a shard's read-only rows by their keys."""
    keys, checksum = read_header(path, group)
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


def _name(group: str) -> str:
    return hashlib.blake2b(group.encode(), digest_size=16).hexdigest()


def _checksum(group: str, keys: Sequence[str], arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([group, list(keys)]).encode())
    for name in sorted(arrays):
        values = arrays[name]
        digest.update(f"\0{name}\0{values.dtype.str}{values.shape}\0".encode())
        digest.update(values.reshape(-1).view(np.uint8).data if values.size else b"")
    return digest.hexdigest()


class Disk:
    """Finds, writes and evicts shards; a file's modification time is its last use.

    It never raises for a disk that is full or forbidden: the store then goes on in
    memory, and one warning says so.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Name the folder; it is made on the first write."""
        self._folder = folder
        disk = shutil.disk_usage(nearest(folder))
        self._max_bytes = min(max_bytes, disk.total // 10)
        self._headers: dict[Path, tuple[Stamp, tuple[str, ...]]] = {}
        self._has_warned = False

    def index(self, group: str) -> dict[Path, tuple[str, ...]]:
        """Return the keys of every readable shard of a group, oldest name first."""
        folder = self._folder / _name(group)
        try:
            paths = sorted(folder.glob(f"*{SUFFIX}"))
        except OSError as error:
            self._warn(error)
            return {}
        index = {}
        for path in paths:
            try:
                stamp = stamp_of(path)
                known = self._headers.get(path)
                if known is None or known[0] != stamp:
                    known = stamp, read_header(path, group)[0]
                    self._headers[path] = known
                index[path] = known[1]
            except FileNotFoundError:
                self._headers.pop(path, None)
            except (DamagedShard, OSError) as error:
                self.discard(path, error)
        return index

    def write(self, group: str, content: bytes, used: set[Path]) -> Path | None:
        """Write a shard, making room but for `used`; return `None` if there is none."""
        try:
            if not self._make_room(len(content), used):
                self._warn("its bound does not hold what one call needs")
                return None
            return write(self._folder / _name(group), content)
        except OSError as error:
            self._warn(error)
            return None

    def touch(self, path: Path, stamp: Stamp) -> Stamp:
        """Mark a shard as used now and return its new stamp."""
        if time.time() - stamp[2] / 1e9 < _TOUCH_SECONDS:
            return stamp
        try:
            os.utime(path)
        except PermissionError:  # a folder that is shared for reading only
            return stamp
        new = stamp_of(path)
        if path in self._headers:
            self._headers[path] = new, self._headers[path][1]
        return new

    def discard(self, path: Path, why: Exception) -> None:
        """Delete a file that cannot be used and log it."""
        _log.warning("Stored features %s cannot be used: %s. Deleted.", path, why)
        self._headers.pop(path, None)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            self._warn(error)

    def _make_room(self, wanted: int, used: set[Path]) -> bool:
        files = self._files()
        size = sum(size for _, size, _ in files)
        stays = sum(size for _, size, path in files if path in used)
        if stays + wanted > self._max_bytes:
            return False
        for changed, weight, path in sorted(files):
            is_abandoned = path.suffix == UNFINISHED and (
                time.time() - changed > _ABANDONED_SECONDS
            )
            is_too_much = size + wanted > self._max_bytes and path.suffix == SUFFIX
            if is_abandoned or (is_too_much and path not in used):
                path.unlink(missing_ok=True)
                self._headers.pop(path, None)
                size -= weight
        return size + wanted <= self._max_bytes

    def _files(self) -> list[tuple[float, int, Path]]:
        files = []
        for path in self._folder.glob("*/*"):
            if path.suffix in (SUFFIX, UNFINISHED):
                try:
                    found = path.stat()
                except FileNotFoundError:  # another process made room
                    continue
                files.append((found.st_mtime, found.st_size, path))
        return files

    def _warn(self, why: object) -> None:
        if not self._has_warned:
            self._has_warned = True
            _log.critical(  # for people, whom the command spares what libraries say
                "Features cannot be stored in %s: %s. Going on in memory, which costs "
                "time; set FEWSHOT_CACHE to a folder with room that can be written.",
                self._folder,
                why,
            )
