"""The folder of shards: what lies there, what is dropped when it is full."""

import hashlib
import logging
import os
import time
from pathlib import Path
from typing import Final

from fewshot_automl.features.shard import (
    SUFFIX,
    UNFINISHED,
    DamagedShard,
    Stamp,
    read_keys,
    stamp_of,
    write,
)

_log = logging.getLogger(__name__)

_TOUCH_SECONDS: Final = 60.0
"""A shard read again sooner is not marked again: marking costs a write."""
_ABANDONED_SECONDS: Final = 3600.0
"""An unfinished shard older than this was left by a process that was killed."""


class Disk:
    """Finds, writes and evicts shards; a file's modification time is its last use.

    It never raises for a disk that is full or forbidden: the store then goes on in
    memory, and one warning says so.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Name the folder; it is made on the first write."""
        self._folder = folder
        self._max_bytes = max_bytes
        self._headers: dict[Path, tuple[Stamp, tuple[str, ...]]] = {}
        self._has_warned = False

    def index(self, group: str) -> dict[Path, tuple[str, ...]]:
        """Return the keys of every readable shard of a group, oldest name first."""
        folder = self._folder / folder_name(group)
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
                    known = stamp, read_keys(path, group)
                    self._headers[path] = known
                index[path] = known[1]
            except FileNotFoundError:
                self._headers.pop(path, None)
            except (DamagedShard, OSError) as error:
                self.discard(path, error)
        return index

    def write(self, group: str, content: bytes, used: set[Path]) -> Path | None:
        """Write a shard, making room first; return `None` if there is none.

        Args:
            group: The group it belongs to.
            content: The file's bytes.
            used: Shards that must stay.
        """
        try:
            if not self._make_room(len(content), used):
                self._warn("its bound does not hold what one call needs")
                return None
            return write(self._folder / folder_name(group), content)
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

    def size_bytes(self) -> int:
        """Return what all groups weigh, unfinished shards included."""
        return sum(size for _, size, _ in self._files())

    def clear(self) -> None:
        """Delete every shard of every group, and the folders that are then empty."""
        for _, _, path in self._files():
            path.unlink(missing_ok=True)
        self._headers.clear()
        if self._folder.is_dir():
            for folder in self._folder.iterdir():
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()

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
            _log.warning(
                "Features cannot be stored in %s: %s. Going on in memory.",
                self._folder,
                why,
            )


def folder_name(group: str) -> str:
    """Return the name of a group's folder."""
    return hashlib.blake2b(group.encode(), digest_size=16).hexdigest()
