"""Hashes of files."""

import functools
import hashlib
from pathlib import Path


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_sha256(path: Path) -> str:
    """Return the sha256 of a file, hashed once a process unless the file changes."""
    path = path.resolve()
    status = path.stat()
    return _hashed(path, status.st_size, status.st_mtime_ns, status.st_ino)


@functools.lru_cache(maxsize=1024)
def _hashed(path: Path, size: int, changed: int, inode: int) -> str:
    return file_sha256(path)
