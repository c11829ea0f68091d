"""Weights of a card: at hand, or fetched from the first source that has them."""

from collections.abc import Callable
from pathlib import Path

from fewshot_automl.backbones import hub_source
from fewshot_automl.backbones.card import Card
from fewshot_automl.backbones.hashing import known_sha256
from fewshot_automl.backbones.package_source import (
    Folder,
    Installed,
    NotAtHand,
    Shelf,
    downloaded,
    requirements,
    take_files,
)
from fewshot_automl.backbones.sources import HubSource, PackageSource, Source
from fewshot_automl.backbones.weight_cache import (
    Located,
    Origin,
    find_converted,
    store,
    workplace,
)
from fewshot_automl.backbones.zoo_folders import user_folders
from fewshot_automl.errors import CardError, DataError

Progress = Callable[[str], None]
"""Told each step in a phrase, for example ``downloading x==1.0 with pip``."""


def _quiet(step: str) -> None:
    """Tell nobody."""


def _in_folders(card: Card) -> Located | None:
    for home in user_folders():
        weights = home / card.id / "model.safetensors"
        if weights.is_file():
            return Located(
                weights=weights,
                folder=weights.parent,
                sha256=known_sha256(weights),
                source=f"folder {weights.parent}",
            )
    return None


def _converted(card: Card, source: Source) -> Located | None:
    if isinstance(source, PackageSource):
        return find_converted(card, source.sha256, source.format, source.key_map)
    sha256 = hub_source.expected_sha256(card.id, source)
    if sha256 is None:
        return None
    return find_converted(card, sha256, "safetensors", source.key_map)


def _made(card: Card) -> Located | None:
    found = _in_folders(card)
    for source in card.sources:
        found = found or _converted(card, source)
    return found


def _from_shelf(
    card: Card,
    source: PackageSource,
    shelf: Shelf,
    said: str,
    work: Path,
    deadline: float | None,
) -> Located:
    room = work / "files"
    room.mkdir()
    weights, extras = take_files(source, shelf, room, deadline)
    origin = Origin(
        weights=weights,
        extras=extras,
        sha256=source.sha256,
        format=source.format,
        key_map=source.key_map,
        said=said,
    )
    return store(card, origin, work)


def _from_package(
    card: Card,
    source: PackageSource,
    folder: Path | None,
    is_offline: bool,
    tell: Progress,
    deadline: float | None,
) -> Located:
    wanted = requirements(source)
    said = f"package {source.name}=={source.version}"
    with workplace(card, deadline) as work:
        if (found := _converted(card, source)) is not None:
            return found  # another process was faster
        shelf: Shelf = Folder(folder) if folder is not None else Installed()
        missing = shelf.missing(wanted)
        if not missing:
            tell(f"taking {card.id} out of {said}")
            return _from_shelf(card, source, shelf, said, work, deadline)
        names = ", ".join(f"{name}=={version}" for name, version in missing)
        if folder is not None:
            raise NotAtHand(
                f"{folder} must hold wheels of {names}, got none. Put them there: "
                "pip download --no-deps --only-binary :all: -d DIR "
                f"{names.replace(', ', ' ')}"
            )
        if is_offline:
            raise NotAtHand(f"{names} must be installed, got no such installation.")
        tell(f"downloading {names} with pip")
        with downloaded(wanted, work / "download", deadline) as archives:
            tell(f"checking and converting {card.id}")
            return _from_shelf(card, source, archives, said, work, deadline)


def _from_hub(
    card: Card,
    source: HubSource,
    folder: Path | None,
    is_offline: bool,
    tell: Progress,
    deadline: float | None,
) -> Located:
    tell(f"fetching {card.id} from {folder or f'the hub ({source.repo})'}")
    if folder is not None:
        files = hub_source.files_from(card.id, source, folder, deadline)
    else:
        files = hub_source.fetch_files(
            card.id, source, is_offline=is_offline, deadline=deadline
        )
    with workplace(card, deadline) as work:
        if (found := _converted(card, source)) is not None:
            return found
        origin = Origin(
            weights=files.weights,
            extras=files.extras,
            sha256=files.sha256,
            format="safetensors",
            key_map=source.key_map,
            said=files.said,
        )
        return store(card, origin, work)


def _from_source(
    card: Card,
    source: Source,
    folder: Path | None,
    is_offline: bool,
    tell: Progress,
    deadline: float | None,
) -> Located:
    if isinstance(source, PackageSource):
        return _from_package(card, source, folder, is_offline, tell, deadline)
    return _from_hub(card, source, folder, is_offline, tell, deadline)


def is_at_hand(card: Card) -> bool:
    """Return whether `locate` would find the weights; cheap, and without network."""
    if _made(card) is not None:
        return True
    return any(
        not Installed().missing(requirements(source))
        if isinstance(source, PackageSource)
        else hub_source.is_cached(card.id, source)
        for source in card.sources
    )


def locate(card: Card) -> Located:
    """Return weights that are at hand, without any network.

    Folders of the user's own come first, then the cache of converted weights, then
    installed packages and the hub's cache, which are converted on the way.

    Args:
        card: Whose weights.

    Raises:
        CardError: If they are not at hand, naming the one command that gets them; or
            if what is at hand is not what the card pins.
    """
    if (found := _made(card)) is not None:
        return found
    for source in card.sources:
        try:
            return _from_source(card, source, None, True, _quiet, None)
        except NotAtHand:
            continue
    raise CardError(
        f"Weights of {card.id} must be at hand, got none. "
        f"Get them with: fewshot zoo get {card.id}"
    )


def get(
    card: Card,
    *,
    from_folder: Path | None = None,
    progress: Callable[[str], None] | None = None,
    deadline: float | None = None,
) -> Located:
    """Return the weights of a card, fetching them where they are not at hand.

    Args:
        card: Whose weights.
        from_folder: A folder of wheels, sdists or hub downloads. If given, nothing
            is fetched from anywhere else.
        progress: Told each step in a phrase.
        deadline: When to give up.

    Raises:
        DataError: If `from_folder` is no folder.
        CardError: If no source has them, or what came is not what the card pins.
        OutOfTime: If the deadline passes.
    """
    if from_folder is not None and not from_folder.is_dir():
        raise DataError(f"--from must be a folder, got {from_folder}. Name another.")
    if (found := _made(card)) is not None:
        return found
    tell = progress or _quiet
    reasons = []
    for source in card.sources:
        try:
            return _from_source(card, source, from_folder, False, tell, deadline)
        except NotAtHand as reason:
            reasons.append(str(reason))
    why = " ".join(reasons) or "got a card without sources. Put them in a folder."
    raise CardError(f"Weights of {card.id} could not be fetched. {why}")
