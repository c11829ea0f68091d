"""Where fewshot_automl keeps what it can make or fetch again."""

import os
import shutil
from pathlib import Path
from typing import Final

import platformdirs

CONTENTS: Final = {
    "features": "what frozen backbones made of examples; made again when needed",
    "studies": "fits in Python without `out`, with their models; not made again",
    "weights": "of backbones, converted; fetched again when needed",
    "demo": "the data of `fewshot demo`; fetched again when needed",
}
"""Folders in the cache, and what they hold."""


def cache_folder() -> Path:
    """Return the folder for weights, features and studies that nobody gave a place.

    ``FEWSHOT_CACHE`` names another one.
    """
    named = os.environ.get("FEWSHOT_CACHE")
    return Path(named) if named else Path(platformdirs.user_cache_dir("fewshot_automl"))


def nearest(folder: Path) -> Path:
    """Return a folder, or the first above it that is there."""
    places = (folder, *folder.parents)
    return next(place for place in places if os.access(place, os.F_OK))


def size_bytes(folder: Path) -> int:
    """Return what the files in a folder weigh."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def link_folder(source: Path, target: Path) -> None:
    """Put a folder at another place too, whole or not at all, without copying files."""
    draft = target.with_name(f"{target.name}.linking")
    shutil.rmtree(draft, ignore_errors=True)
    draft.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copytree(source, draft, copy_function=os.link)
    except (OSError, shutil.Error):  # a file system without hard links
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(source, draft)
    shutil.rmtree(target, ignore_errors=True)
    draft.rename(target)
