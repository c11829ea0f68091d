"""Opens Optuna's storages; a journal whose writer was killed is mended.

Optuna appends one JSON line for each operation and syncs it to disk before it
returns. A writer that is killed can leave a last line without its end, and a lock file
that nobody will remove. Neither may cost a finished trial, nor hold up a resume.
"""

import json
import mmap
import os
import warnings
from pathlib import Path
from typing import Any, cast

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from fewshot_automl.errors import LedgerError, UserError


class JournalLock:
    """Excludes other writers of a journal; the kernel frees it when its holder dies."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._lock = FileLock(f"{journal}.guard")

    def acquire(self) -> bool:
        """Wait for the lock, mend the journal, and return True."""
        self._lock.acquire()
        try:
            mend(self._journal)
        except BaseException:
            self._lock.release()
            raise
        return True

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()


def mend(journal: Path) -> None:
    """Cut off a last line that its writer never finished.

    It was never acknowledged: the call that wrote it had not returned.
    """
    size = journal.stat().st_size
    if size == 0:
        return
    with (
        journal.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        whole = content.rfind(b"\n") + 1
        last = content.rfind(b"\n", 0, max(whole - 1, 0)) + 1
        try:  # another program may have written behind what was left unfinished
            json.loads(content[last:whole] or b"{}")
        except ValueError:
            whole = last
    if whole < size:
        os.truncate(journal, whole)


def open_journal(journal: Path) -> JournalStorage:
    """Return the storage in a file, which is created where there is none.

    Raises:
        LedgerError: If it is damaged before its last line.
    """
    journal.touch()
    lock = JournalLock(journal)
    lock.acquire()  # mends what a killed writer left
    lock.release()
    try:
        return JournalStorage(JournalFileBackend(str(journal), cast(Any, lock)))
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise LedgerError(
            f"{journal} is damaged before its last line ({type(error).__name__}: "
            f"{error}). Restore it from a copy, or start in another folder."
        ) from error


def open_url(url: str) -> Any:
    """Return the storage at a URL; a UserError if it cannot be opened."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return optuna.storages.get_storage(url)
    except (
        SQLAlchemyError,
        optuna.exceptions.OptunaError,
        ImportError,
        RuntimeError,  # tables of another version of Optuna
        ValueError,
    ) as error:
        raise UserError(
            f"A ledger's location must be a folder or a storage URL that Optuna can "
            f"open, got {url!r} ({type(error).__name__}: {error}). Check its driver, "
            "host and rights."
        ) from error


def study_id(
    storage: Any, study: str, address: str, metric: str, is_maximised: bool
) -> int:
    """Return the number of a study, which is created where there is none."""
    try:
        found = storage.get_study_id_from_name(study)
    except KeyError:
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # nobody asked Optuna
        try:
            made = optuna.create_study(
                storage=storage,
                study_name=study,
                direction="maximize" if is_maximised else "minimize",
                load_if_exists=True,  # another process may be faster
            )
            found = made._study_id
            with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
                made.set_metric_names([metric])  # for optuna-dashboard
        finally:
            optuna.logging.set_verbosity(verbosity)
    if len(storage.get_study_directions(found)) != 1:
        raise LedgerError(
            f"Study {study!r} in {address} must be one of ours, got one with several "
            "objectives. Use another name."
        )
    return cast(int, found)
