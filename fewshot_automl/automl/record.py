"""What a study was asked for and of what, written down so that it can go on."""

import hashlib
import json
import uuid
from pathlib import Path
from typing import Any, Final

import numpy as np

from fewshot_automl.automl.settings import Settings
from fewshot_automl.data import Source
from fewshot_automl.errors import UserError
from fewshot_automl.tasks import Task

STUDY_FILE: Final = "study.json"


def settings_of(folder: Path | str) -> Settings:
    """Return what the study in a folder was asked for.

    Raises:
        UserError: If there is no study.
    """
    return Settings.from_json(read_record(Path(folder))["settings"])


def fingerprint(
    keys: tuple[str, ...], targets: np.ndarray, task: Task, seed: int
) -> str:
    """Return a hash of all that a study's scores rest on; the seed makes the folds."""
    digest = hashlib.sha256("\n".join(keys).encode())
    digest.update(targets.tobytes())
    digest.update(json.dumps([task.to_json(), seed], sort_keys=True).encode())
    return digest.hexdigest()[:16]


def write_record(
    folder: Path, settings: Settings, data: Source, test: Source | None, mark: str
) -> str:
    """Write down what a resume needs, or check it against what is there.

    Args:
        folder: Output folder of the study.
        settings: What was asked for.
        data: Where the examples come from.
        test: Where the test data come from.
        mark: The study's `fingerprint`.

    Returns:
        The study's name, its own in any storage.

    Raises:
        UserError: If the folder holds another study, or something else.
    """
    path = folder / STUDY_FILE
    name = f"{folder.name}-{uuid.uuid4().hex[:12]}"
    if path.exists():
        old = json.loads(path.read_text("utf-8"))
        name = old["name"]
        if old["fingerprint"] != mark:
            raise UserError(
                f"Output folder must be new or of a study of the same data, got "
                f"{folder}, whose study saw other examples, labels, metric or seed. "
                "Choose another --out."
            )
    elif folder.exists() and any(folder.iterdir()):
        raise UserError(
            f"Output folder must be new or empty, got {folder}. Choose another --out."
        )
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "name": name,
        "settings": settings.to_json(),
        "data": _place(data),
        "test": _place(test),
        "in_memory": [
            kind
            for kind, source in (("data", data), ("test", test))
            if source is not None and _place(source) is None
        ],
        "fingerprint": mark,
    }
    draft = path.with_suffix(".writing")
    draft.write_text(json.dumps(record, indent=2), "utf-8")
    draft.replace(path)
    return name


def read_record(folder: Path) -> dict[str, Any]:
    """Return what `write_record` wrote.

    Raises:
        UserError: If the folder holds no study.
    """
    path = folder / STUDY_FILE
    if not path.exists():
        raise UserError(
            f"Folder must hold a study ({STUDY_FILE}), got {folder}. Give the --out "
            "folder of a `fewshot fit`."
        )
    record: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return record


def _place(data: Source | None) -> str | None:
    """Return where data lie, as far as that can be written down."""
    if isinstance(data, Path) or (isinstance(data, str) and Path(data).exists()):
        return str(Path(data).absolute())
    return data if isinstance(data, str) else None
