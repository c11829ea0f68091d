"""Where fewshot_automl keeps what it can make or fetch again."""

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Return the folder for weights and features; it may be deleted at any time.

    ``FEWSHOT_CACHE`` names another one.
    """
    named = os.environ.get("FEWSHOT_CACHE")
    return Path(named) if named else Path(platformdirs.user_cache_dir("fewshot_automl"))
