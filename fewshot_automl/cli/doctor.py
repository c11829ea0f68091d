"""The command ``doctor``: what this machine has and what is missing."""

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import click
import psutil
from rich.text import Text

from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.cli.console import facts, people, print_json
from fewshot_automl.cli.options import json_option
from fewshot_automl.places import cache_folder, nearest, size_bytes

PACKAGES: Final = (
    *("fewshot-automl", "torch", "transformers", "peft", "timm", "accelerate"),
    *("botorch", "gpytorch", "datasets", "optuna", "scikit-learn", "pandas", "numpy"),
)
LEAST_FREE_BYTES: Final = 2_000_000_000


@click.command("doctor")
@json_option
def doctor(is_json: bool) -> int:
    """Say what this machine has: versions, devices, memory, weights, cache.

    Exits with 1 if something must be mended.

    \b
    Example:
      fewshot doctor
    """
    zoo, memory = Zoo.known(), psutil.virtual_memory()
    found = {
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "devices": _devices(),
        "machine": {
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "memory_bytes": memory.total,
            "memory_free_bytes": memory.available,
        },
        "cache": _cache(cache_folder()),
        "weights": {
            "at_hand": [card.id for card in zoo if zoo.is_at_hand(card)],
            "defaults": [card.id for card in zoo.defaults()],
        },
        "has_pip": find_spec("pip") is not None,
    }
    problems = _problems(found)
    console = people(is_json)
    console.print(facts(found))
    for problem in problems:
        console.print(Text(problem, style="red"))
    if not problems:
        console.print(Text("Nothing to mend.", style="green"))
    if is_json:
        print_json({**found, "problems": problems})
    return 1 if problems else 0


def _devices() -> dict[str, Any]:
    try:
        from fewshot_automl.training.placement import choose_placement, visible_devices

        visible, chosen = list(visible_devices()), str(choose_placement())
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        return {"visible": [], "chosen": "", "error": str(error)}
    return {"visible": visible, "chosen": chosen, "error": None}


def _cache(folder: Path) -> dict[str, Any]:
    there = nearest(folder)
    return {
        "folder": str(folder),
        "bytes": size_bytes(folder),
        "is_writable": there.is_dir() and os.access(there, os.W_OK),
        "disk_free_bytes": shutil.disk_usage(there).free,
    }


def _problems(found: dict[str, Any]) -> list[str]:
    cache, weights, error = found["cache"], found["weights"], found["devices"]["error"]
    lacking = [name for name, version in found["versions"].items() if version is None]
    checks = {
        f"Not installed: {', '.join(lacking)}. Install fewshot-automl again.": lacking,
        f"torch cannot be used: {error}": error,
        f"The cache folder must be writable, got {cache['folder']}. Set FEWSHOT_CACHE "
        "to one that is.": not cache["is_writable"],
        f"The disk of {cache['folder']} is nearly full. Make room, or set "
        "FEWSHOT_CACHE to another.": cache["disk_free_bytes"] < LEAST_FREE_BYTES,
        "No weights are at hand and this Python has no pip to fetch them. Install it: "
        "python -m ensurepip": not (weights["at_hand"] or found["has_pip"]),
    }
    return [problem for problem, is_so in checks.items() if is_so]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
