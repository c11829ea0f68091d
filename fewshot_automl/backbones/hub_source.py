"""Weights out of a Hugging Face hub repository: safetensors at a locked commit."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fewshot_automl.backbones.hashing import (
    check_deadline,
    disk_full,
    is_disk_full,
    known_sha256,
)
from fewshot_automl.backbones.lock import Locked, lock_path, read_lock, write_lock
from fewshot_automl.backbones.package_source import NotAtHand
from fewshot_automl.backbones.sources import HubSource
from fewshot_automl.errors import CardError


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFiles:
    """Files of one commit, as they lie in the hub's cache."""

    weights: Path
    extras: dict[str, Path]
    revision: str
    sha256: str


def _locked(card_id: str, source: HubSource) -> Locked | None:
    locked = read_lock(card_id)
    if locked is None or locked.repo != source.repo:
        return None
    if source.revision is not None and source.revision != locked.revision:
        return None  # the card was pinned to another commit since
    return locked


def expected_sha256(card_id: str, source: HubSource) -> str | None:
    """Return what the weight file must hash to; None before it was ever seen."""
    locked = _locked(card_id, source)
    return source.sha256 or (locked.files.get(source.file) if locked else None)


def _one(
    source: HubSource, file: str, revision: str | None, is_offline: bool
) -> Path | None:
    """Return a file from the hub or its cache; None if the repository lacks it."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(
            hf_hub_download(
                source.repo, file, revision=revision, local_files_only=is_offline
            )
        )
    except LocalEntryNotFoundError as error:
        raise NotAtHand(
            f"{source.repo} must be in the hub's cache or reachable, got no {file} "
            "there and no connection. Try again with a network, or download the "
            "repository elsewhere and use `fewshot zoo get ID --from DIR`."
        ) from error
    except EntryNotFoundError:
        return None
    except GatedRepoError as error:
        raise NotAtHand(
            f"{source.repo} must be open to you, got a gated repository. Accept its "
            "terms on its page and run `hf auth login`."
        ) from error
    except (RepositoryNotFoundError, HfHubHTTPError, OSError) as error:
        if is_disk_full(error):
            raise disk_full(Path(constants.HF_HUB_CACHE)) from error
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise NotAtHand(
            f"{source.repo} must be downloadable, got: {reason} Try again later."
        ) from error


def _drop(path: Path) -> None:
    """Delete a file of the hub's cache, the link and the bytes."""
    blob = path.resolve()
    path.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)


def _verify(
    card_id: str, source: HubSource, revision: str, paths: dict[str, Path]
) -> None:
    locked = _locked(card_id, source)
    pinned = dict(locked.files) if locked else {}
    if source.sha256 is not None:
        pinned[source.file] = source.sha256
    hashes = {file: known_sha256(path) for file, path in paths.items()}
    for file, path in paths.items():
        if pinned.get(file, hashes[file]) != hashes[file]:
            _drop(path)
            raise CardError(
                f"{file} of {source.repo} must have sha256 {pinned[file]}, got "
                f"{hashes[file]}. The file was deleted; fetch it again, and if this "
                f"comes back, ask who changed it (it is locked in {lock_path()})."
            )
    if locked is None or set(hashes) - set(locked.files):
        write_lock(
            card_id, Locked(repo=source.repo, revision=revision, files=hashes | pinned)
        )


def _gather(
    source: HubSource, one: Callable[[str], Path | None], deadline: float | None
) -> dict[str, Path]:
    paths = {}
    for file in (source.file, *source.files, *source.optional_files):
        check_deadline(deadline)
        try:
            path = one(file)
        except NotAtHand:
            if file not in source.optional_files:
                raise
            path = None  # offline, the cache cannot tell absent from never asked
        if path is not None:
            paths[file] = path
        elif file not in source.optional_files:
            raise NotAtHand(
                f"{source.repo} must have {file}, got a repository without it. "
                "Correct the card."
            )
    return paths


def fetch_files(
    card_id: str, source: HubSource, *, is_offline: bool, deadline: float | None
) -> HubFiles:
    """Return the files of a hub source, downloaded or from the hub's cache.

    The commit is the card's, else the locked one, else what ``main`` is now; commit
    and hashes go into the lock file at the first download and are obeyed after it.

    Args:
        card_id: Key in the lock file.
        source: What to fetch.
        is_offline: Look in the cache only.
        deadline: When to stop between files.

    Raises:
        NotAtHand: If a file is not in the cache and cannot be downloaded.
        CardError: If a file is not the one locked or pinned.
        OutOfTime: If the deadline passes.
    """
    locked = _locked(card_id, source)
    revision = source.revision or (locked.revision if locked else None)
    if revision is None:
        first = _one(source, source.file, None, is_offline)
        if first is None:
            raise NotAtHand(
                f"{source.repo} must have {source.file}, got a repository without it. "
                "Correct the card."
            )
        revision = first.parents[len(Path(source.file).parts) - 1].name
    commit = revision
    paths = _gather(
        source, lambda file: _one(source, file, commit, is_offline), deadline
    )
    _verify(card_id, source, revision, paths)
    return HubFiles(
        weights=paths[source.file],
        extras={Path(f).name: p for f, p in paths.items() if f != source.file},
        revision=revision,
        sha256=known_sha256(paths[source.file]),
    )


def files_from(
    card_id: str, source: HubSource, folder: Path, deadline: float | None
) -> HubFiles:
    """Return the files of a hub source out of a folder that was brought here.

    Args:
        card_id: Key in the lock file; the files may lie in ``folder/card_id``.
        source: What to take.
        folder: A plain download of the repository, or the folder above it.
        deadline: When to stop between files.

    Raises:
        NotAtHand: If a file is missing.
        CardError: If a file is not the one locked or pinned.
    """
    names = (card_id, source.repo.replace("/", "--"), source.repo.partition("/")[2])
    home = next((folder / n for n in names if (folder / n).is_dir()), folder)

    def one(file: str) -> Path | None:
        return home / file if (home / file).is_file() else None

    if one(source.file) is None:
        raise NotAtHand(
            f"{folder} must hold {card_id}{os.sep}{source.file} of {source.repo}, got "
            "no such file. Download the repository into it."
        )
    paths = _gather(source, one, deadline)
    locked = _locked(card_id, source)
    pinned = {source.file: source.sha256} if source.sha256 else {}
    pinned |= locked.files if locked else {}
    for file, path in paths.items():
        if pinned.get(file, known_sha256(path)) != known_sha256(path):
            raise CardError(
                f"{path} must have sha256 {pinned[file]}, got {known_sha256(path)}. "
                "Bring the file that the card or the lock names."
            )
    revision = source.revision or (locked.revision if locked else "unknown")
    return HubFiles(
        weights=paths[source.file],
        extras={Path(f).name: p for f, p in paths.items() if f != source.file},
        revision=revision,
        sha256=known_sha256(paths[source.file]),
    )


def is_cached(card_id: str, source: HubSource) -> bool:
    """Return whether the hub's cache holds the weight file; reads no network."""
    from huggingface_hub import try_to_load_from_cache

    locked = _locked(card_id, source)
    revision = source.revision or (locked.revision if locked else None)
    found = try_to_load_from_cache(source.repo, source.file, revision=revision)
    return isinstance(found, str)
