"""The lock file: which commit and which bytes a hub source first gave."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from fewshot_automl.backbones.sources import HubSource
from fewshot_automl.backbones.zoo_folders import user_folder
from fewshot_automl.errors import CardError


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """What one card's hub source is held to."""

    repo: str
    """``owner/name``."""
    revision: str | None
    """Commit; None: the files came out of a folder, which tells none."""
    files: dict[str, str] = field(hash=False)
    """sha256 of each file."""


def lock_path() -> Path:
    """Return where the lock file lies; deleting it lets every source move on."""
    return user_folder() / "zoo.lock.json"


def _read(path: Path) -> dict[str, dict[str, object]]:
    if not path.exists():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(values, dict)
    except (OSError, ValueError, AssertionError) as error:
        raise CardError(
            f"{path} must be the JSON that fewshot wrote, got {error}. "
            "Mend it, or delete it to lock anew."
        ) from error
    return values


def read_lock(card_id: str) -> Locked | None:
    """Return what a card is held to; None before its first download.

    Raises:
        CardError: If the lock file is damaged.
    """
    entry = _read(lock_path()).get(card_id)
    if entry is None:
        return None
    files = entry.get("files")
    if not isinstance(files, dict):
        raise CardError(
            f"{lock_path()}: files of {card_id} must be a table, got {files!r}. "
            "Mend it, or delete the entry to lock anew."
        )
    revision = entry.get("revision")
    return Locked(
        repo=str(entry.get("repo")),
        revision=None if revision is None else str(revision),
        files={str(name): str(sha256) for name, sha256 in files.items()},
    )


def write_lock(card_id: str, locked: Locked) -> None:
    """Record what a card is held to from now on.

    Raises:
        CardError: If the lock file is damaged or its folder cannot be written.
    """
    path = lock_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".json.lock")):
            values = _read(path)
            values[card_id] = {
                "repo": locked.repo,
                "revision": locked.revision,
                "files": dict(sorted(locked.files.items())),
            }
            part = path.with_suffix(".json.part")
            part.write_text(json.dumps(values, indent=2, sort_keys=True), "utf-8")
            part.replace(path)
    except OSError as error:
        raise CardError(
            f"{path} must be writable, got {error}. Hub weights are held to what was "
            "first downloaded; set FEWSHOT_ZOO_PATH to a folder you can write."
        ) from error


def held_to(card_id: str, source: HubSource) -> Locked | None:
    """Return the lock of a source; None if it has none, or the card moved on since."""
    locked = read_lock(card_id)
    if locked is None or locked.repo != source.repo:
        return None
    if None not in (source.revision, locked.revision) and (
        source.revision != locked.revision
    ):
        return None  # the card was pinned to another commit since
    return locked


def named_revision(card_id: str, source: HubSource) -> str | None:
    """Return the commit that the card names, or else the lock."""
    locked = held_to(card_id, source)
    return source.revision or (locked.revision if locked else None)


def pinned_hashes(card_id: str, source: HubSource) -> dict[str, str]:
    """Return the sha256 of files as the lock has them; the card's own comes first."""
    locked = held_to(card_id, source)
    pinned = dict(locked.files) if locked else {}
    return pinned | ({source.file: source.sha256} if source.sha256 else {})


def hold_to(
    card_id: str, source: HubSource, revision: str | None, hashes: dict[str, str]
) -> None:
    """Lock commit and hashes of a source, where the lock does not have them yet.

    Args:
        card_id: Key in the lock file.
        source: Where the files came from.
        revision: Their commit; None if nobody knows it.
        hashes: sha256 of each file; what is pinned already stays.

    Raises:
        CardError: If the lock file is damaged or its folder cannot be written.
    """
    locked = held_to(card_id, source)
    is_named = locked is not None and locked.revision == revision
    if not is_named or set(hashes) - set(locked.files if locked else ()):
        files = hashes | pinned_hashes(card_id, source)
        write_lock(card_id, Locked(repo=source.repo, revision=revision, files=files))
