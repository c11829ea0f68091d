"""Opens Optuna's storages; a journal whose writer was killed is mended.

Optuna appends one JSON line for each operation and syncs it to disk before it
returns. A writer that is killed can leave a last line without its end, and a lock file
that nobody will remove. Neither may cost a finished trial, nor hold up a resume.
"""

import json
import mmap
import os
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, cast

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from fewshot_automl.errors import LedgerError, UserError

BEAT_SECONDS: Final = 20
"""How often a driver says that its trials still run."""
SILENT_SECONDS: Final = 120
"""After which, unless it did, it counts as dead; by the clock of the database."""
PSYCOPG: Final = "postgresql+psycopg"
"""The driver of our extra `postgres`; SQLAlchemy's own choice is an older one."""


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

    scheme, _, rest = url.partition("://")
    if scheme in ("postgresql", "postgres"):
        scheme = PSYCOPG
    try:
        with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
            storage = optuna.storages.RDBStorage(
                f"{scheme}://{rest}",
                # A connection that the server has closed meanwhile is opened again.
                engine_kwargs={"pool_pre_ping": True},
                heartbeat_interval=BEAT_SECONDS,
                grace_period=SILENT_SECONDS,
            )
        return optuna.storages.get_storage(storage)
    except (
        SQLAlchemyError,
        optuna.exceptions.OptunaError,
        ImportError,
        RuntimeError,  # tables of another version of Optuna
        ValueError,
    ) as error:
        lacks = scheme == PSYCOPG and isinstance(error, ImportError)
        hint = "Install it with: pip install 'fewshot-automl[postgres]'"
        raise UserError(
            f"A ledger's location must be a folder or a storage URL that Optuna can "
            f"open, got {url!r} ({type(error).__name__}: {error}). "
            f"{hint if lacks else 'Check its driver, host and rights.'}"
        ) from error


def is_shared(storage: Any) -> bool:
    """Return whether several drivers may work on one study in a storage."""
    engine = getattr(getattr(storage, "_backend", None), "engine", None)
    return engine is not None and engine.dialect.name == "postgresql"


@contextmanager
def alone(storage: Any, study: int) -> Iterator[None]:
    """Keep other drivers of a shared study waiting; the server frees a dead one's."""
    if not is_shared(storage):
        yield
        return
    from sqlalchemy import text

    # Optuna locks the study's row when it makes a trial; this is another lock.
    lock = text("SELECT pg_advisory_xact_lock(hashtext('fewshot_automl'), :study)")
    with storage._backend.engine.begin() as connection:
        connection.execute(lock, {"study": study})
        yield


class Heart:
    """Says every few seconds that this process still works on its trials."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        self._trials: set[int] = set()
        self._thread: threading.Thread | None = None

    def add(self, trial_id: int) -> None:
        """Say it of a new trial, from now on."""
        self._storage.record_heartbeat(trial_id)
        self._trials.add(trial_id)
        if self._thread is None:
            self._thread = threading.Thread(target=self._beat, daemon=True)
            self._thread.start()

    def remove(self, trial_id: int) -> None:
        """Say no more of a trial; it has ended."""
        self._trials.discard(trial_id)

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT_SECONDS)
            for trial_id in tuple(self._trials):
                # A server that is down now is told at the next beat.
                with suppress(optuna.exceptions.OptunaError):
                    self._storage.record_heartbeat(trial_id)


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
