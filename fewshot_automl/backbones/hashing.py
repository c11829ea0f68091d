"""Hashes of files, remembered until the file changes, and copies that stop in time."""

import errno
import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

from fewshot_automl.errors import CardError, OutOfTime
from fewshot_automl.places import cache_folder

_CHUNK = 1 << 20


@runtime_checkable
class Readable(Protocol):
    """Gives bytes: a file, or a member of an archive."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most so many bytes, none at the end."""
        ...


def check_deadline(deadline: float | None) -> None:
    """Raise once the clock is past the deadline.

    Raises:
        OutOfTime: If it is.
    """
    if deadline is not None and time.monotonic() > deadline:
        raise OutOfTime("Time must be left to fetch weights, got none. Allow more.")


def disk_full(folder: Path, needed: int | None = None) -> CardError:
    """Return the error for a disk without room."""
    room = f"{needed // 1_000_000 + 1} MB free" if needed else "more free space"
    return CardError(
        f"The disk of {folder} must have {room}, got "
        f"{shutil.disk_usage(folder).free // 1_000_000} MB. "
        "Free some, or set FEWSHOT_CACHE to a folder on a larger disk."
    )


def is_disk_full(error: OSError) -> bool:
    """Return whether an error means that a disk or a quota is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def copy_stream(
    source: Readable,
    target: BinaryIO,
    *,
    limit: int,
    what: str,
    deadline: float | None = None,
) -> str:
    """Copy bytes and return their sha256.

    Args:
        source: Read to its end.
        target: Written to.
        limit: Most bytes that may come.
        what: Name of the file for messages.
        deadline: When to give up.

    Raises:
        CardError: If more bytes come than allowed.
        OutOfTime: If the deadline passes.
    """
    digest, done = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK):
        check_deadline(deadline)
        done += len(chunk)
        if done > limit:
            raise CardError(
                f"{what} must be at most {limit} bytes, got more. Do not use this file."
            )
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


def file_sha256(path: Path, deadline: float | None = None) -> str:
    """Return the sha256 of a file's bytes.

    Raises:
        OutOfTime: If the deadline passes.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            check_deadline(deadline)
            digest.update(chunk)
    return digest.hexdigest()


def known_sha256(path: Path) -> str:
    """Return the sha256 of a file, hashing it again only if it changed.

    What was hashed is remembered in the cache folder with the file's size and time of
    change; where the cache cannot be written, every call hashes.
    """
    path = path.resolve()
    status = path.stat()
    stamp = [status.st_size, status.st_mtime_ns, status.st_ino]
    name = hashlib.sha256(str(path).encode()).hexdigest()[:24]
    memory = cache_folder() / "weights" / "hashes" / f"{name}.json"
    try:
        remembered = json.loads(memory.read_text(encoding="utf-8"))
        if remembered["stamp"] == stamp:
            return str(remembered["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # never hashed, or a memory torn by a crash: hash now
    sha256 = file_sha256(path)
    remember_sha256(path, sha256)
    return sha256


def remember_sha256(path: Path, sha256: str) -> None:
    """Note the sha256 that was just computed for a file."""
    path = path.resolve()
    status = path.stat()
    stamp = [status.st_size, status.st_mtime_ns, status.st_ino]
    name = hashlib.sha256(str(path).encode()).hexdigest()[:24]
    memory = cache_folder() / "weights" / "hashes" / f"{name}.json"
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        part = memory.with_suffix(f".{time.monotonic_ns()}.part")
        part.write_text(json.dumps({"stamp": stamp, "sha256": sha256}), "utf-8")
        part.replace(memory)
    except OSError:
        return  # a cache that cannot be written costs time, not truth
