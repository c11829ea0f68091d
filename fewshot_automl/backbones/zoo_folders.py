"""The folders where cards and weights of the user's own are looked for."""

import os
from pathlib import Path

import platformdirs

import fewshot_automl
from fewshot_automl.errors import CardError


def shipped_folder() -> Path:
    """Return the folder of the cards that come with fewshot_automl.

    Raises:
        CardError: If the installation has lost its cards.
    """
    package = Path(fewshot_automl.__file__).parent
    for folder in (package / "_zoo", package.parent / "zoo"):
        if folder.is_dir():
            return folder
    raise CardError(
        f"The zoo must lie beside the package, got no {package / '_zoo'}. "
        "Install fewshot-automl again."
    )


def user_folders() -> tuple[Path, ...]:
    """Return the folders of the user's own cards (`id.toml`) and weights (`id/`).

    ``FEWSHOT_ZOO_PATH`` names them, separated as ``PATH`` is; otherwise there is one
    in the user's data folder. They need not exist.
    """
    named = os.environ.get("FEWSHOT_ZOO_PATH", "")
    folders = tuple(Path(part) for part in named.split(os.pathsep) if part)
    return folders or (Path(platformdirs.user_data_dir("fewshot_automl")) / "zoo",)


def user_folder() -> Path:
    """Return the folder that new cards and the lock file are written to."""
    return user_folders()[0]
