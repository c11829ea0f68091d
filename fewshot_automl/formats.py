"""The format of the folders of studies and models, and what reads it."""

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

FORMAT: Final = 1
"""Of the folders of studies and models. It rises when earlier versions could not read
what is written; what they wrote is read for ever (`tests/reference`)."""
PACKAGES: Final = ("fewshot-automl", "torch", "transformers", "timm", "numpy")


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that a model is made with."""
    return {name: metadata.version(name) for name in PACKAGES}


def newer_in_words(path: Path, number: int, values: Mapping[str, Any]) -> str | None:
    """Return why a file of such a format cannot be read; None if it can."""
    if number <= FORMAT:
        return None
    version = values.get("versions", {}).get(PACKAGES[0], "")
    least = f">={version}" if version else ""
    return (
        f"{path} must be of format {FORMAT} or earlier, got {number}: it was written "
        f"by a newer version of fewshot_automl. Install that one: pip install "
        f"--upgrade 'fewshot-automl{least}'"
    )
