"""Writes the report: one HTML file that needs nothing else."""

import base64
import hashlib
import json
import os
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from fewshot_automl.errors import RunError
from fewshot_automl.outcome import Outcome
from fewshot_automl.report import words
from fewshot_automl.report.axes import Axis
from fewshot_automl.report.classes import classes_section
from fewshot_automl.report.expected import expected
from fewshot_automl.report.search import search
from fewshot_automl.report.section import Section
from fewshot_automl.report.tradeoff import tradeoff
from fewshot_automl.space import Config
from fewshot_automl.tasks import Task

REPORT_FILE: Final = "report.html"
MODEL_MANIFEST: Final = "model/model.json"
STUDY_FILE: Final = "study.json"
SECTIONS: Final[Mapping[str, Callable[[Path, Mapping[str, Any]], Section]]] = {
    "classes": classes_section,
}
"""What the report says of a target beyond its score, by the task's kind; optional."""
OPTIONAL: Final = (
    *("data", "date", "labelled", "unlabelled", "class_counts", "inferred", "findings"),
    *("skipped", "placement", "plan", "folds", "seconds", "budget_seconds", "ending"),
    *("baselines", "limits", "front", "over", "keeping", "measures"),
)
"""Keys of a summary without which a report is still written."""


def write_report(
    folder: Path, summary: dict[str, Any], history: Sequence[tuple[Config, Outcome]]
) -> Path:
    """Write `report.html` into the folder of a finished study and return its path.

    Args:
        folder: Of the study; holds the out-of-fold predictions, and the model.
        summary: What `result.json` holds. It must have `task`, `score` and `winner`;
            what else is missing is missing in the report.
        history: All trials, in order.

    Raises:
        RunError: If the file cannot be written.
    """
    template = _environment().get_template("report.html.j2")
    script = _source("sort.js")
    page = template.render(
        summary={**dict.fromkeys(OPTIONAL), **summary},
        expected=expected(summary, history),
        section=_section(folder, summary),
        search=search(summary, history),
        tradeoff=tradeoff(summary, history),
        winner=history[summary["winner"]["number"]][0],
        folder=folder.absolute(),
        quoted=shlex.quote(str(folder.absolute())),
        origin=_origin(folder, summary),
        style=_source("report.css"),
        script=script,
        script_hash=_hash(script),
    )
    return _write(folder / REPORT_FILE, page)


def _section(folder: Path, summary: Mapping[str, Any]) -> Section:
    """Return what is said of the kind of target; little of one without a section."""
    task = Task.from_json(summary["task"])
    if task.kind in SECTIONS:
        return SECTIONS[task.kind](folder, summary)
    return Section(
        about=f"{task.modality} to {task.kind}", right="be predicted rightly"
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("fewshot_automl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=words.number,
        short=words.short,
        duration=words.duration,
        moment=words.moment,
        clipped=words.clipped,
        title_of=words.title,
        meaning_of=words.meaning,
        settings_of=words.settings,
    )
    environment.globals.update(
        counted=words.counted,
        share=words.share,
        Axis=Axis,
        endings=words.ENDINGS,
    )
    return environment


@cache
def _source(name: str) -> str:
    """Return a file beside the templates as it stands."""
    environment = _environment()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _hash(script: str) -> str:
    """Return what a content security policy calls a script by."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _origin(folder: Path, summary: dict[str, Any]) -> dict[str, Any]:
    """Return what is needed to repeat the study, as far as it was written down."""
    manifest = _read(folder / MODEL_MANIFEST)
    asked = _read(folder / STUDY_FILE).get("settings", {})
    return {
        "versions": summary.get("versions")
        or manifest.get("versions")
        or {"fewshot-automl": metadata.version("fewshot-automl")},
        "seed": summary.get("seed", asked.get("seed")),
        "calibration": summary.get("calibration", manifest.get("calibration")),
        "license": summary.get("license") or summary["winner"].get("license"),
        "settings": {
            name: value
            for name, value in asked.items()
            if value not in (None, False) and name != "seed"
        },
    }


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


def _write(path: Path, page: str) -> Path:
    """Write the page whole or not at all."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        draft = Path(name)
        try:
            # File names may hold bytes that are no text; they must not stop a report.
            with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
                file.write(page)
            draft.chmod(0o644)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(
            f"Report must be writable at {path}, got {error}. Free space there, or "
            "make the folder writable."
        ) from error
    return path
