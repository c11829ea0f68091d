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
from fewshot_automl.backbones.lock import (
    held_to,
    hold_to,
    lock_path,
    named_revision,
    pinned_hashes,
)
from fewshot_automl.backbones.package_source import NotAtHand
from fewshot_automl.backbones.sources import HubSource
from fewshot_automl.errors import CardError


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFiles:
    """Files of one commit, in the hub's cache or a folder, checked and locked."""

    weights: Path
    extras: dict[str, Path]
    sha256: str
    said: str
    """Where they came from, in words."""


def expected_sha256(card_id: str, source: HubSource) -> str | None:
    """Return what the weight file must hash to; None before it was ever seen."""
    return pinned_hashes(card_id, source).get(source.file)


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
    pinned = pinned_hashes(card_id, source)
    hashes = {file: known_sha256(path) for file, path in paths.items()}
    for file, path in paths.items():
        if pinned.get(file, hashes[file]) != hashes[file]:
            _drop(path)
            raise CardError(
                f"{file} of {source.repo} must have sha256 {pinned[file]}, got "
                f"{hashes[file]}. The file was deleted; fetch it again, and if this "
                f"comes back, ask who changed it (it is locked in {lock_path()})."
            )
    hold_to(card_id, source, revision, hashes)


def _verify_as_in_folder(
    card_id: str, source: HubSource, revision: str, paths: dict[str, Path]
) -> None:
    """Hold a commit to hashes that came out of a folder, and lock it if they agree.

    Nothing is deleted if they do not: the commit may simply be another one.
    """
    hashes = {file: known_sha256(path) for file, path in paths.items()}
    pinned = pinned_hashes(card_id, source)
    for file in (source.file, *source.files, *source.optional_files):
        sha256 = pinned.get(file, hashes.get(file))
        if hashes.get(file) != sha256:
            # offline, an absent file may only not have been asked for
            raise (CardError if file in hashes else NotAtHand)(
                f"{file} of {source.repo} must have sha256 {sha256}, as it came from a "
                f"folder, got {hashes.get(file, 'no such file')} "
                f"at commit {revision}. Bring the same files again with `fewshot zoo "
                f"get {card_id} --from DIR`, or, to take those of the hub, delete "
                f"{card_id} in {lock_path()}."
            )
    hold_to(card_id, source, revision, hashes)


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


def _files(source: HubSource, paths: dict[str, Path], said: str) -> HubFiles:
    return HubFiles(
        weights=paths[source.file],
        extras={Path(f).name: p for f, p in paths.items() if f != source.file},
        sha256=known_sha256(paths[source.file]),
        said=said,
    )


def fetch_files(
    card_id: str, source: HubSource, *, is_offline: bool, deadline: float | None
) -> HubFiles:
    """Return the files of a hub source, downloaded or from the hub's cache.

    The commit is the card's, else the locked one, else what ``main`` is now; commit
    and hashes go into the lock file at the first download and are obeyed after it.
    Where only hashes are locked, by `files_from`, the commit must agree with them.

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
    revision = named_revision(card_id, source)
    locked = held_to(card_id, source)
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
    is_from_folder = locked is not None and locked.revision is None
    verify = _verify_as_in_folder if is_from_folder else _verify
    verify(card_id, source, commit, paths)
    return _files(source, paths, f"hub {source.repo}@{commit}")


def _check_safetensors(path: Path) -> None:
    """Keep what cannot be weights, such as a pointer of Git LFS, out of the lock."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        raise CardError(
            f"{path} must be a safetensors file, got: {error} "
            "Download it again, whole; `git clone` needs Git LFS for that."
        ) from error


def files_from(
    card_id: str, source: HubSource, folder: Path, deadline: float | None
) -> HubFiles:
    """Return the files of a hub source out of a folder that was brought here.

    Their hashes go into the lock file and are obeyed from then on, without a commit:
    a folder does not tell which one it is.

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
    pinned = pinned_hashes(card_id, source)
    hashes = {file: known_sha256(path) for file, path in paths.items()}
    for file, path in paths.items():
        if pinned.get(file, hashes[file]) != hashes[file]:
            raise CardError(
                f"{path} must have sha256 {pinned[file]}, got {hashes[file]}. Bring "
                "the file that the card or the lock names, or, if this one is right "
                f"and the card names none, delete {card_id} in {lock_path()}."
            )
    _check_safetensors(paths[source.file])
    locked = held_to(card_id, source)
    hold_to(card_id, source, locked.revision if locked else None, hashes)
    return _files(source, paths, f"hub {source.repo}, from folder {home}")


def is_cached(card_id: str, source: HubSource) -> bool:
    """Return whether the hub's cache holds the weight file; reads no network."""
    from huggingface_hub import try_to_load_from_cache

    revision = named_revision(card_id, source)
    found = try_to_load_from_cache(source.repo, source.file, revision=revision)
    if not isinstance(found, str):
        return False
    locked = held_to(card_id, source)
    if locked is None or locked.revision is not None:
        return True
    # of what a folder gave nobody knows the commit; this may be another one
    return known_sha256(Path(found)) == expected_sha256(card_id, source)
