"""What a study's folder says: what it was asked for, of what, and what advised it."""

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from fewshot_automl.automl.result import RESULT_FILE
from fewshot_automl.automl.settings import NONE, Settings, options
from fewshot_automl.data import Source
from fewshot_automl.errors import UserError
from fewshot_automl.finding import counted
from fewshot_automl.formats import FORMAT, newer_in_words, package_versions
from fewshot_automl.ledger import Ledger
from fewshot_automl.ledger.record import OUTPUTS_FOLDER
from fewshot_automl.oracle import Past, Prior
from fewshot_automl.space import Space
from fewshot_automl.tasks import Task

STUDY_FILE: Final = "study.json"
PRIOR_FILE: Final = "prior.json"
"""A study's copy of the prior that it was given; it may be resumed elsewhere."""
ENTRIES: Final = {"name", "settings", "data", "test", "in_memory", "fingerprint"}
"""Of a study's file."""
SPACE_NOTE: Final = "space"
"""Where the ledger says what was searched."""


def settings_of(folder: Path | str) -> Settings:
    """Return what the study in a folder was asked for."""
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
    """Write down what a resume needs; return a name of the folder's own.

    It names its driver in any storage, and its study unless settings do.

    Raises:
        UserError: If the folder holds a study of another `fingerprint`, or other files.
    """
    path = folder / STUDY_FILE
    name = f"{folder.name}-{uuid.uuid4().hex[:12]}"
    if path.exists():
        old = read_record(folder)
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
    sources = {"data": data, "test": test}
    places = {kind: _place(source) for kind, source in sources.items()}
    record = {
        "format": FORMAT,
        "versions": package_versions(),
        "name": name,
        "settings": settings.to_json(),
        **places,
        "in_memory": [k for k, x in sources.items() if x is not None and not places[k]],
        "fingerprint": mark,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".writing")
        draft.write_text(json.dumps(record, indent=2), "utf-8")
        draft.replace(path)
    except OSError as error:
        raise UserError(
            f"Output folder must be one that can be written, got {folder} "
            f"({error.strerror}). Choose another with --out (in Python: out)."
        ) from error
    return name


def read_record(folder: Path) -> dict[str, Any]:
    """Return what `write_record` wrote.

    Raises:
        UserError: If the folder holds no study, or one of another version.
    """
    path = folder / STUDY_FILE
    if not path.exists():
        raise UserError(
            f"Folder must hold a study ({STUDY_FILE}), got {folder}. Give the --out "
            "folder of a `fewshot fit`."
        )
    try:
        record: dict[str, Any] = json.loads(path.read_text("utf-8"))
        newer = newer_in_words(path, record.get("format", 1), record)
        odd = (ENTRIES - record.keys()) | (record["settings"].keys() - options())
    except (ValueError, KeyError, TypeError, AttributeError):
        newer, odd = None, {"its JSON, which is damaged"}
    if newer:
        raise UserError(newer)
    if odd:
        raise UserError(
            f"{path} must be of a study that this version of fewshot_automl began, got "
            f"one that differs in {', '.join(sorted(odd))}. Go on with the version "
            "that began it, or fit again with another --out."
        )
    return record


def read_summary(folder: Path) -> dict[str, Any]:
    """Return what a finished fit wrote of itself."""
    found: dict[str, Any] = json.loads((folder / RESULT_FILE).read_text("utf-8"))
    return found


@contextmanager
def kept_if_tried(folder: Path) -> Iterator[None]:
    """Delete a new study if an error ends it before any trial is done."""
    is_new = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    try:
        yield
    except Exception:
        if is_new and not (folder / OUTPUTS_FOLDER).exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _place(data: Source | None) -> str | None:
    if isinstance(data, Path) or (isinstance(data, str) and Path(data).exists()):
        return str(Path(data).absolute())
    return data if isinstance(data, str) else None


def chosen_prior(asked: str | None, folder: Path) -> Prior:
    """Return the prior that settings ask for: the shipped one, none, or a file.

    The study's own copy is read where the file that it was given is gone.
    """
    if asked is None:
        return Prior.default()
    if asked == NONE:
        return Prior()
    file, copy = Path(asked), folder / PRIOR_FILE
    is_gone = copy.exists() and not file.exists()
    return Prior.read(copy if is_gone and settings_of(folder).prior == asked else file)


def prior_in_words(asked: str | None, prior: Prior) -> str:
    """Return in words which prior a study has.

    >>> prior_in_words("none", Prior())
    'none'
    """
    if asked == NONE:
        return NONE
    name = "the shipped one" if asked is None else Path(asked).name
    studies = counted(len(prior.studies), "past study", "past studies")
    return f"{name}, {studies}, key {prior.key}"


def note_space(ledger: Ledger, kind: str, space: Space) -> None:
    """Write down what a study searches, for those that come after it."""
    ledger.note(SPACE_NOTE, {"kind": kind, "dimensions": space.to_json()})


def ledger_of(folder: Path, space: Space) -> Ledger:
    """Return the record of the trials of the study in a folder."""
    settings, name = settings_of(folder), read_record(folder)["name"]
    place, study = settings.storage or folder, settings.study or name
    return Ledger.open(place, study=study, space=space, folder=folder)


def past_study(folder: Path) -> Past:
    """Return what the study in the output folder of a fit teaches later ones."""
    name, ledger = read_record(folder)["name"], ledger_of(folder, Space(()))
    noted, history = ledger.notes().get(SPACE_NOTE), ledger.history()
    if not history or not isinstance(noted, dict):
        raise UserError(
            f"The study in {folder} must have tried something, got no trial. "
            f"Leave it out, or begin it: fewshot resume {folder}"
        )
    space = Space.from_json(noted.get("dimensions", ()))
    return Past.of(name, space, history, kind=str(noted.get("kind", "")))
