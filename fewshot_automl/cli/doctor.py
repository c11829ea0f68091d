"""The command ``doctor``: what this machine has and what is missing."""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata, util
from pathlib import Path
from typing import Any, Final

import click

from fewshot_automl.cli.commands import Command
from fewshot_automl.cli.options import json_option
from fewshot_automl.cli.session import people, print_json

PACKAGES: Final = (
    "fewshot-automl",
    "torch",
    "transformers",
    "timm",
    "accelerate",
    "datasets",
    "optuna",
    "scikit-learn",
    "scipy",
    "numpy",
)
LEAST_FREE_BYTES: Final = 2_000_000_000
PIP_SECONDS: Final = 30


@click.command(
    "doctor", cls=Command, short_help="Say what this machine has and what is missing."
)
@click.option(
    "--network", is_flag=True, help="Also ask whether pip reaches a package index."
)
@json_option
def doctor(network: bool, is_json: bool) -> int:
    """Say what this machine has: versions, devices, memory, weights, cache.

    Exits with 1 if something must be mended.

    Examples:
      fewshot doctor
      fewshot doctor --network --json
    """
    found = {
        "versions": _versions(),
        "devices": _devices(),
        "machine": _machine(),
        "cache": _cache(),
        "weights": _weights(),
        "pip": _pip(network),
    }
    problems = _problems(found)
    _show(found, problems, is_json)
    if is_json:
        print_json({**found, "problems": problems})
    return 1 if problems else 0


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _devices() -> dict[str, Any]:
    try:
        from fewshot_automl.training.placement import choose_placement, visible_devices

        return {
            "visible": list(visible_devices()),
            "chosen": str(choose_placement()),
            "error": None,
        }
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        return {"visible": [], "chosen": "", "error": str(error)}


def _machine() -> dict[str, Any]:
    import psutil

    memory = psutil.virtual_memory()
    return {
        "system": platform.platform(),
        "cores": len(psutil.Process().cpu_affinity())
        if hasattr(psutil.Process, "cpu_affinity")
        else os.cpu_count(),
        "memory_bytes": memory.total,
        "memory_free_bytes": memory.available,
    }


def _cache() -> dict[str, Any]:
    from fewshot_automl.places import cache_folder

    folder = cache_folder()
    there = next(p for p in (folder, *folder.parents) if p.exists())
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        "folder": str(folder),
        "bytes": sum(path.stat().st_size for path in files),
        "is_writable": _is_writable(there),
        "disk_free_bytes": shutil.disk_usage(there).free,
    }


def _is_writable(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _weights() -> dict[str, list[str]]:
    from fewshot_automl.backbones.zoo import Zoo

    zoo = Zoo.known()
    return {
        "at_hand": [card.id for card in zoo if zoo.is_at_hand(card)],
        "known": [card.id for card in zoo],
        "defaults": [card.id for card in zoo.defaults()],
    }


def _pip(network: bool) -> dict[str, Any]:
    """Return whether there is a pip, and on request whether it reaches an index."""
    is_there = util.find_spec("pip") is not None
    reaches: bool | None = None
    if is_there and network:
        command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps"]
        with tempfile.TemporaryDirectory() as folder:
            command += ["--quiet", "--no-input", "-d", folder, "iniconfig"]
            try:
                done = subprocess.run(  # noqa: S603
                    command, capture_output=True, timeout=PIP_SECONDS, check=False
                )
                reaches = done.returncode == 0
            except subprocess.TimeoutExpired:
                reaches = False
    return {"is_installed": is_there, "reaches_index": reaches}


def _problems(found: dict[str, Any]) -> list[str]:
    problems = []
    lacking = [name for name, version in found["versions"].items() if version is None]
    if lacking:
        problems.append(
            f"Not installed: {', '.join(lacking)}. Install fewshot-automl again."
        )
    if found["devices"]["error"]:
        problems.append(f"torch cannot be used: {found['devices']['error']}")
    cache = found["cache"]
    if not cache["is_writable"]:
        problems.append(
            f"The cache folder must be writable, got {cache['folder']}. "
            "Set FEWSHOT_CACHE to one that is."
        )
    if cache["disk_free_bytes"] < LEAST_FREE_BYTES:
        problems.append(
            f"The disk of {cache['folder']} is nearly full. Make room, or set "
            "FEWSHOT_CACHE to another."
        )
    weights, pip = found["weights"], found["pip"]
    if not weights["at_hand"] and not pip["is_installed"]:
        problems.append(
            "No weights are at hand and this Python has no pip to fetch them. "
            "Install it: python -m ensurepip"
        )
    if pip["reaches_index"] is False:
        problems.append(
            "pip reaches no package index. Configure it (pip config), or bring wheels: "
            "fewshot zoo get --defaults --from DIR"
        )
    return problems


def _show(found: dict[str, Any], problems: list[str], is_json: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _lines(found).items():
        table.add_row(name, Text(value))
    console = people(is_json)
    console.print(table)
    console.print()
    for problem in problems:
        console.print(Text(problem, style="red"))
    if not problems:
        console.print(Text("Nothing to mend.", style="green"))


def _lines(found: dict[str, Any]) -> dict[str, str]:
    from fewshot_automl.cli.words import size

    machine, cache = found["machine"], found["cache"]
    weights, pip = found["weights"], found["pip"]
    defaults = [
        f"{id} ({'at hand' if id in weights['at_hand'] else 'not at hand'})"
        for id in weights["defaults"]
    ]
    reach = {None: "not asked; add --network", True: "yes", False: "no"}
    return {
        "versions": ", ".join(f"{n} {v or '-'}" for n, v in found["versions"].items()),
        "system": machine["system"],
        "cores": str(machine["cores"]),
        "memory": f"{size(machine['memory_free_bytes'])} free of "
        f"{size(machine['memory_bytes'])}",
        "devices": ", ".join(found["devices"]["visible"]),
        "placement": found["devices"]["chosen"],
        "cache": f"{cache['folder']}, {size(cache['bytes'])}, "
        f"{'writable' if cache['is_writable'] else 'not writable'}, "
        f"{size(cache['disk_free_bytes'])} free on its disk",
        "weights": f"{len(weights['at_hand'])} of {len(weights['known'])} at hand: "
        f"{', '.join(weights['at_hand']) or 'none'}",
        "defaults": ", ".join(defaults),
        "pip": "installed" if pip["is_installed"] else "not installed",
        "index reached": reach[pip["reaches_index"]],
    }
