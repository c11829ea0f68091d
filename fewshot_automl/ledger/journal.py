"""The journal file's lock, and the mending of a journal whose writer was killed.

Optuna appends one JSON line for each operation and syncs it to disk before it
returns. A writer that is killed can leave two things behind: a lock file that nobody
will remove, and a last line without its end. Neither may cost a finished trial, nor
hold up a resume.
"""

import json
import os
import time
from pathlib import Path
from typing import BinaryIO, Final

from filelock import FileLock

_BLOCK_BYTES: Final = 65_536


class JournalLock:
    """Excludes other writers of a journal, and never outlives its process.

    Two locks are taken. The first is the kernel's own, on a file beside the journal:
    it goes when its process goes, however it goes. The second is the `.lock` file
    that Optuna's own backends use, so that a dashboard keeps out too; whoever holds
    the first may break the second, once it has stood unchanged for a while.

    Has the shape of Optuna's `BaseJournalFileLock`.
    """

    def __init__(self, journal: Path, *, patience_seconds: float = 1.0) -> None:
        self._journal = journal
        self._kernel_lock = FileLock(f"{journal}.guard")
        self._lock_file = Path(f"{journal}.lock")
        self._patience_seconds = patience_seconds

    def acquire(self) -> bool:
        """Wait for both locks, mend the journal, and return True."""
        self._kernel_lock.acquire()
        try:
            self._take_lock_file()
            mend(self._journal)
        except BaseException:
            self._kernel_lock.release()
            raise
        return True

    def release(self) -> None:
        """Give both locks back."""
        self._lock_file.unlink(missing_ok=True)
        self._kernel_lock.release()

    def _take_lock_file(self) -> None:
        give_up = time.monotonic() + self._patience_seconds
        seen: int | None = None
        while not _create_exclusively(self._lock_file):
            found = _identity(self._lock_file)
            if found != seen:  # another writer is alive and well
                seen, give_up = found, time.monotonic() + self._patience_seconds
            elif time.monotonic() > give_up:
                self._lock_file.unlink(missing_ok=True)
            time.sleep(0.005)


def mend(journal: Path) -> int:
    """Cut off a last line that its writer never finished, and return its bytes.

    Such a line was never acknowledged: the call that wrote it had not returned. It is
    kept in `<journal>.torn`, for the curious.

    Args:
        journal: The file; whoever calls holds its lock.
    """
    with journal.open("r+b") as file:
        start, line = _last_line(file)
        if not line or _is_whole(line):
            return 0
        with Path(f"{journal}.torn").open("ab") as torn:
            torn.write(line.rstrip(b"\n") + b"\n")
        file.truncate(start)
        os.fsync(file.fileno())
    return len(line)


def _last_line(file: BinaryIO) -> tuple[int, bytes]:
    """Return where the last line starts, and the line."""
    start = file.seek(0, os.SEEK_END)
    tail = b""
    while start > 0:
        step = min(_BLOCK_BYTES, start)
        start -= step
        file.seek(start)
        tail = file.read(step) + tail
        cut = tail.rfind(b"\n", 0, len(tail) - 1)
        if cut >= 0:
            return start + cut + 1, tail[cut + 1 :]
    return 0, tail


def _is_whole(line: bytes) -> bool:
    if not line.endswith(b"\n"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _create_exclusively(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    return True


def _identity(path: Path) -> int | None:
    """Return what changes when a lock file is taken anew."""
    try:
        return path.lstat().st_ctime_ns
    except FileNotFoundError:
        return None
