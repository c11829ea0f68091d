"""Weights of a card: at hand, or fetched from the first source that has them."""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from fewshot_automl.backbones import hub, packages
from fewshot_automl.backbones.card import (
    Card,
    HubSource,
    Located,
    PackageSource,
    Source,
)
from fewshot_automl.backbones.hashing import file_sha256, known_sha256
from fewshot_automl.backbones.packages import NotAtHand
from fewshot_automl.backbones.zoo_folders import user_folder, user_folders
from fewshot_automl.errors import CardError, DataError, OutOfTime
from fewshot_automl.places import cache_folder

Progress = Callable[[str], None]
"""Told each step in a phrase, for example ``downloading x==1.0 with pip``."""

WEIGHTS_FILE: Final = "model.safetensors"
CARD_FILE: Final = "card.json"
_RECORD_FILE: Final = "source.json"
_LAYOUT: Final = 2
"""Raised when the same source would be stored as other files."""


def _home(card: Card) -> Path:
    return cache_folder() / "weights" / card.id


def _place(card: Card, source: Source) -> Path:
    """Return where the files of one source lie in the cache."""
    text = json.dumps([_LAYOUT, dataclasses.asdict(source)], sort_keys=True)
    return _home(card) / hashlib.sha256(text.encode()).hexdigest()[:16]


def _in_own_folder(card: Card) -> Path | None:
    for home in user_folders():
        if (home / card.id / WEIGHTS_FILE).is_file():
            return home / card.id
    return None


def _cached(card: Card, source: Source) -> Located | None:
    """Return what is in the cache; None if it is not what was written there."""
    folder = _place(card, source)
    try:
        record = json.loads((folder / _RECORD_FILE).read_text(encoding="utf-8"))
        hashes: dict[str, str] = record["files"]
        if any(known_sha256(folder / name) != hashes[name] for name in hashes):
            return None
        sha256, said = hashes[WEIGHTS_FILE], str(record["source"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Located(
        weights=folder / WEIGHTS_FILE, folder=folder, sha256=sha256, source=said
    )


def _made(card: Card) -> Located | None:
    """Return weights that need no fetching and no conversion."""
    if (folder := _in_own_folder(card)) is not None:
        return Located(
            weights=folder / WEIGHTS_FILE,
            folder=folder,
            sha256=known_sha256(folder / WEIGHTS_FILE),
            source=f"folder {folder}",
        )
    found = (_cached(card, source) for source in card.sources)
    return next((each for each in found if each is not None), None)


def is_at_hand(card: Card) -> bool:
    """Return whether `locate` would find the weights; cheap: reads names, no hashes."""
    return _in_own_folder(card) is not None or any(
        (_place(card, source) / _RECORD_FILE).is_file()
        or (
            not packages.missing(packages.requirements(source), None)
            if isinstance(source, PackageSource)
            else hub.is_cached(source)
        )
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
        with contextlib.suppress(NotAtHand):
            return _fetched(card, source, None, True, lambda step: None, None)
    is_pinned = any(
        isinstance(source, PackageSource) or source.revision for source in card.sources
    )
    raise CardError(
        f"Weights of {card.id} must be at hand, got none. Get them with: "
        f"fewshot zoo get {card.id}{'' if is_pinned else ' --revision main'}"
    )


def get(
    card: Card,
    *,
    from_folder: Path | None = None,
    revision: str | None = None,
    progress: Progress | None = None,
    deadline: float | None = None,
) -> Located:
    """Return the weights of a card, fetching them where they are not at hand.

    What comes from a hub revision that the caller names, or from a hub download in
    `from_folder`, is the user's own choice: it goes into the user's zoo folder with a
    card that names the commit, or the file's hash, and is used from then on.

    Args:
        card: Whose weights.
        from_folder: A folder of wheels, sdists or hub downloads. If given, nothing
            is fetched from anywhere else.
        revision: Commit, branch or tag of the hub repository, in place of the card's.
        progress: Told each step in a phrase.
        deadline: When to give up.

    Raises:
        DataError: If `from_folder` is no folder, or a revision cannot be chosen.
        CardError: If no source has them, or what came is not what the card pins.
        OutOfTime: If the deadline passes.
    """
    tell = progress or (lambda step: None)
    if from_folder is not None and not from_folder.is_dir():
        raise DataError(f"--from must be a folder, got {from_folder}. Name another.")
    if revision is not None:
        hubs = [each for each in card.sources if isinstance(each, HubSource)]
        if not hubs or from_folder is not None:
            raise DataError(
                f"--revision must go with a backbone from the hub, got {card.id}"
                f"{' and --from' if hubs else ''}. Leave it out."
            )
        tell(f"fetching {card.id} from the hub ({hubs[0].repo}, {revision})")
        return _own(card, hubs[0], hub.fetch(hubs[0], revision, is_offline=False), True)
    if (found := _made(card)) is not None:
        return found
    reasons = []
    for source in card.sources:
        try:
            return _fetched(card, source, from_folder, False, tell, deadline)
        except NotAtHand as reason:
            reasons.append(str(reason))
    why = " ".join(reasons) or "got a card without sources. Put them in a folder."
    raise CardError(f"Weights of {card.id} could not be fetched. {why}")


def _fetched(
    card: Card,
    source: Source,
    folder: Path | None,
    is_offline: bool,
    tell: Progress,
    deadline: float | None,
) -> Located:
    if isinstance(source, HubSource):
        if folder is not None:
            tell(f"fetching {card.id} from {folder}")
            return _own(card, source, hub.in_folder(source, folder, card.id), False)
        if source.revision is None:
            raise NotAtHand(
                f"Card of {card.id} must name a commit of {source.repo}, so that a "
                "result can be repeated, got none. Take the commit of today and keep "
                f"it with: fewshot zoo get {card.id} --revision main"
            )
        tell(f"fetching {card.id} from the hub ({source.repo})")
        paths = hub.fetch(source, source.revision, is_offline=is_offline)
        _check(source, paths)
        with _workplace(card, deadline) as work:
            extras = {Path(f).name: paths[f] for f in source.files}
            said = f"hub {source.repo}@{source.revision}"
            return _stored(card, source, paths[source.file], extras, said, work)
    return _from_package(card, source, folder, is_offline, tell, deadline)


def _from_package(
    card: Card,
    source: PackageSource,
    folder: Path | None,
    is_offline: bool,
    tell: Progress,
    deadline: float | None,
) -> Located:
    wanted = packages.requirements(source)
    said = f"package {source.name}=={source.version}"
    with _workplace(card, deadline) as work:
        if (found := _cached(card, source)) is not None:
            return found  # another process was faster
        lacking = packages.missing(wanted, folder)
        names = ", ".join(f"{name}=={version}" for name, version in lacking)
        if lacking and folder is not None:
            raise NotAtHand(
                f"{folder} must hold wheels of {names}, got none. Put them there: "
                "pip download --no-deps --only-binary :all: -d DIR "
                f"{names.replace(', ', ' ')}"
            )
        if lacking and is_offline:
            raise NotAtHand(f"{names} must be installed, got no such installation.")
        if lacking:
            tell(f"downloading {names} with pip")
            folder = work / "download"
            packages.download(wanted, folder, deadline)
        tell(f"taking {card.id} out of {said}")
        room = work / "files"
        room.mkdir()
        weights, extras = packages.take_files(source, folder, room)
        return _stored(card, source, weights, extras, said, work)


def _check(source: HubSource, paths: Mapping[str, Path]) -> None:
    path = paths[source.file]
    got = known_sha256(path)
    if source.sha256 is not None and got != source.sha256:
        raise CardError(
            f"{path} must have sha256 {source.sha256}, got {got}: it is not the file "
            "that the card pins. Delete it, and fetch it from a hub you trust."
        )


def _own(
    card: Card, source: HubSource, paths: Mapping[str, Path], is_from_hub: bool
) -> Located:
    """Copy hub files into the user's zoo, with a card that says which they are."""
    _check(source, paths)
    pinned = dataclasses.replace(
        source,
        revision=hub.commit_of(source, paths[source.file]) if is_from_hub else None,
        sha256=known_sha256(paths[source.file]),
    )
    others = [each for each in card.sources if each != source]
    own = dataclasses.replace(card, sources=(pinned, *others))
    extras = {Path(file).name: paths[file] for file in source.files}
    target = user_folder() / card.id
    with _workplace(card, None) as work, _said_where(target.parent):
        _put(own, pinned, paths[source.file], extras, str(target), work, target)
    found = _made(card)
    assert found is not None
    return found


def _stored(
    card: Card,
    source: Source,
    weights: Path,
    extras: Mapping[str, Path],
    said: str,
    work: Path,
) -> Located:
    """Put what a source gave into the cache."""
    _put(card, source, weights, extras, said, work, _place(card, source))
    found = _cached(card, source)
    assert found is not None
    return found


def _put(
    card: Card,
    source: Source,
    weights: Path,
    extras: Mapping[str, Path],
    said: str,
    work: Path,
    target: Path,
) -> None:
    """Convert what a source gave and put it into a folder in one step."""
    made = work / "made"
    made.mkdir()
    for name, path in extras.items():
        _bring(path, made / name)
    (made / CARD_FILE).write_text(card.to_json(), "utf-8")
    if isinstance(source, PackageSource) and (
        source.format != "safetensors" or source.key_map != "same"
    ):
        # torch and the network's library, only where there is something to convert
        from fewshot_automl.backbones.checkpoints import convert
        from fewshot_automl.backbones.load import skeleton

        network = skeleton(card, made)[0]
        convert(weights, source.format, source.key_map, network, made / WEIGHTS_FILE)
    else:
        _bring(weights, made / WEIGHTS_FILE)
        _check_safetensors(made / WEIGHTS_FILE)
    files = {name: file_sha256(made / name) for name in (WEIGHTS_FILE, *extras)}
    record = json.dumps({"source": said, "files": files}, indent=2)
    (made / _RECORD_FILE).write_text(record, "utf-8")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        shutil.rmtree(target)
    shutil.move(made, target)  # the user's zoo may lie on another disk


def _check_safetensors(path: Path) -> None:
    """Keep out what cannot be weights, such as a pointer of Git LFS."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        raise CardError(
            f"{path.name} must be a safetensors file, got: {error} "
            "Download it again, whole; `git clone` needs Git LFS for that."
        ) from error


def _bring(source: Path, target: Path) -> None:
    """Link a file where possible, else copy it."""
    source = source.resolve()
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@contextlib.contextmanager
def _workplace(card: Card, deadline: float | None) -> Iterator[Path]:
    """Give a fresh folder inside the cache that is gone when the block is left.

    One process at a time works on a card; what a killed one left is removed.
    """
    home = _home(card)
    left = -1.0 if deadline is None else max(0.0, deadline - time.monotonic())
    with _said_where(home):
        home.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(home / ".lock", timeout=left):
                for stale in home.glob("partial-*"):
                    shutil.rmtree(stale, ignore_errors=True)
                with tempfile.TemporaryDirectory(prefix="partial-", dir=home) as name:
                    yield Path(name)
        except Timeout:
            raise OutOfTime(
                f"Time must be left to fetch {card.id}, got none: another process is "
                "fetching it. Allow more, or wait for that one."
            ) from None


@contextlib.contextmanager
def _said_where(folder: Path) -> Iterator[None]:
    """Turn a full or forbidden disk into an error that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CardError(
                f"The disk of {folder} must have more free space, got {error}. "
                "Free some, or set FEWSHOT_CACHE to a folder on a larger disk."
            ) from error
        if isinstance(error, PermissionError | NotADirectoryError | FileExistsError):
            raise CardError(
                f"{folder} must be writable, got {error}. "
                "Set FEWSHOT_CACHE (and FEWSHOT_ZOO_PATH) to folders that are."
            ) from error
        raise
