"""The cache of converted weights: written whole or not at all, checked when opened."""

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from fewshot_automl.backbones.card import Card
from fewshot_automl.backbones.hashing import (
    disk_full,
    file_sha256,
    is_disk_full,
    known_sha256,
    remember_sha256,
)
from fewshot_automl.backbones.sources import Format
from fewshot_automl.errors import CardError, OutOfTime
from fewshot_automl.places import cache_folder

CONVERSION = 1
"""Raised when `convert` would write something else from the same file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """Weights that are at hand."""

    weights: Path
    """The safetensors file."""
    folder: Path
    """Holds the weights and the files beside them, such as ``tokenizer.json``."""
    sha256: str
    """Hash of `weights`, checked."""
    source: str
    """Where they came from, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Files that a source gave, hash-checked, before conversion."""

    weights: Path
    extras: Mapping[str, Path]
    sha256: str
    format: Format
    key_map: str
    said: str


def _home(card_id: str) -> Path:
    return cache_folder() / "weights" / card_id


def _recipe(format: str, key_map: str) -> str:
    return f"{format} {key_map} {CONVERSION}"


def find_converted(
    card: Card, sha256: str, format: str, key_map: str
) -> Located | None:
    """Return the converted weights of one source file, if they are in the cache.

    A cached file that is not what was written there is removed, and counts as absent.

    Args:
        card: Whose weights.
        sha256: Hash of the source file.
        format: How the source file is read.
        key_map: How its tensors are renamed.
    """
    folder = _home(card.id) / sha256[:12]
    try:
        record = json.loads((folder / "source.json").read_text(encoding="utf-8"))
        files: dict[str, str] = record["files"]
        is_ours = record["sha256"] == sha256
        is_ours &= record["recipe"] == _recipe(format, key_map)
        is_whole = all(known_sha256(folder / n) == h for n, h in files.items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not is_ours or not is_whole:
        return None
    return Located(
        weights=folder / "model.safetensors",
        folder=folder,
        sha256=files["model.safetensors"],
        source=str(record["source"]),
    )


@contextlib.contextmanager
def workplace(card: Card, deadline: float | None = None) -> Iterator[Path]:
    """Give a fresh folder inside the cache that is gone when the block is left.

    One process at a time works on a card; what a killed one left is removed.

    Args:
        card: Whose weights are to be made.
        deadline: When to stop waiting for another process.

    Raises:
        OutOfTime: If another process is still at it at the deadline.
        CardError: If the disk is full or the cache folder cannot be written.
    """
    home = _home(card.id)
    try:
        home.mkdir(parents=True, exist_ok=True)
        left = -1.0 if deadline is None else max(0.0, deadline - time.monotonic())
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
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(home) from error
        if isinstance(error, PermissionError | NotADirectoryError | FileExistsError):
            raise CardError(
                f"The cache folder must be writable, got {error}. "
                "Set FEWSHOT_CACHE to one that is."
            ) from error
        raise


def _bring(source: Path, target: Path) -> None:
    """Link a file where possible, else copy it."""
    source = source.resolve()
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def store(card: Card, origin: Origin, work: Path) -> Located:
    """Convert what a source gave and put it into the cache in one step.

    Args:
        card: Whose weights.
        origin: The checked files.
        work: The folder of `workplace`.

    Raises:
        CardError: If the checkpoint is not what the card says.
    """
    from fewshot_automl.backbones.checkpoints import convert

    made = work / "made"
    made.mkdir()
    weights = made / "model.safetensors"
    if origin.format == "safetensors" and origin.key_map == "same":
        _bring(origin.weights, weights)
        sha256 = origin.sha256
    else:
        convert(origin.weights, origin.format, origin.key_map, weights)
        sha256 = file_sha256(weights)
    files = {"model.safetensors": sha256}
    for name, path in origin.extras.items():
        _bring(path, made / name)
        files[name] = file_sha256(made / name)
    (made / "card.json").write_text(card.to_json(), "utf-8")
    record = {
        "source": origin.said,
        "sha256": origin.sha256,
        "recipe": _recipe(origin.format, origin.key_map),
        "files": files,
    }
    (made / "source.json").write_text(json.dumps(record, indent=2), "utf-8")
    folder = _home(card.id) / origin.sha256[:12]
    if folder.exists():
        shutil.rmtree(folder)
    made.rename(folder)
    remember_sha256(folder / "model.safetensors", sha256)
    return Located(
        weights=folder / "model.safetensors",
        folder=folder,
        sha256=sha256,
        source=origin.said,
    )
