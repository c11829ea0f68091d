"""Weights out of a Hugging Face hub repository: safetensors at one commit."""

from pathlib import Path
from typing import Final

from fewshot_automl.backbones.card import HubSource
from fewshot_automl.backbones.packages import NotAtHand
from fewshot_automl.errors import CardError

_COMMIT_DIGITS: Final = 40


def fetch(source: HubSource, revision: str, *, is_offline: bool) -> dict[str, Path]:
    """Return the files of a hub source, downloaded or from the hub's own cache.

    All come from one commit, also where the revision is a branch that moves.

    Args:
        source: What to fetch.
        revision: A commit, or a branch or tag whose commit of now is taken.
        is_offline: Look in the cache only.

    Raises:
        NotAtHand: If a file is not in the cache and cannot be downloaded.
    """
    first = _one(source, source.file, revision, is_offline)
    commit = commit_of(source, first)
    others = {file: _one(source, file, commit, is_offline) for file in source.files}
    return {source.file: first, **others}


def commit_of(source: HubSource, path: Path) -> str:
    """Return the commit of a source's weight file that lies in the hub's cache."""
    commit = path.parents[len(Path(source.file).parts) - 1].name
    if len(commit) != _COMMIT_DIGITS:
        raise CardError(
            f"{path} must lie in a folder named as its commit, got {commit!r}. "
            "Delete it from the hub's cache and fetch it again."
        )
    return commit


def _one(source: HubSource, file: str, revision: str, is_offline: bool) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
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
    except EntryNotFoundError as error:
        raise NotAtHand(
            f"{source.repo} must have {file}, got a repository without it. "
            "Correct the card."
        ) from error
    except GatedRepoError as error:
        raise NotAtHand(
            f"{source.repo} must be open to you, got a gated repository. Accept its "
            "terms on its page and run `hf auth login`."
        ) from error
    except (HfHubHTTPError, OSError) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise NotAtHand(
            f"{source.repo} must be downloadable, got: {reason} Try again later."
        ) from error


def is_cached(source: HubSource) -> bool:
    """Return whether the hub's cache holds the pinned files; reads no network."""
    from huggingface_hub import try_to_load_from_cache

    return source.revision is not None and all(
        isinstance(
            try_to_load_from_cache(source.repo, file, revision=source.revision), str
        )
        for file in (source.file, *source.files)
    )


def in_folder(source: HubSource, folder: Path, card_id: str) -> dict[str, Path]:
    """Return the files of a hub source out of a folder that was brought here.

    Args:
        source: What to take.
        folder: A plain download of the repository, or the folder above it.
        card_id: The files may lie in ``folder/card_id``.

    Raises:
        NotAtHand: If a file is missing.
    """
    names = (card_id, source.repo.replace("/", "--"), source.repo.partition("/")[2])
    home = next((folder / n for n in names if (folder / n).is_dir()), folder)
    paths = {file: home / file for file in (source.file, *source.files)}
    for file, path in paths.items():
        if not path.is_file():
            raise NotAtHand(
                f"{home} must hold {file} of {source.repo}, got no such file. "
                "Download the repository into it."
            )
    return paths
