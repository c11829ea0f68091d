"""Writes the report: one HTML file that needs nothing else."""

import base64
import hashlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.errors import LedgerError, ShapeError
from fewshot_automl.evaluation.measures import MEASURES
from fewshot_automl.finding import counted
from fewshot_automl.modalities import Input
from fewshot_automl.outcome import Outcome
from fewshot_automl.report import words
from fewshot_automl.report.axes import Axis
from fewshot_automl.report.classes import by_class
from fewshot_automl.report.expected import expected
from fewshot_automl.report.search import search, tradeoffs
from fewshot_automl.space import Config
from fewshot_automl.tasks import Task

REPORT_FILE: Final = "report.html"
STUDY_FILE: Final = "study.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The part of a report that only one kind of target has."""

    title: str
    template: str
    """File in `templates/` that shows what was read."""
    about: Callable[[Task], str]
    """Returns what was learnt, in a phrase."""
    right: str
    """What a right prediction is: new examples are expected to ..."""
    read: Callable[[Path, Mapping[str, Any], Sequence[Input]], object]
    """Returns what the template shows, of a study's folder, summary and examples."""


SECTIONS: Final = {
    "classes": Section(
        title="Class by class",
        template="classes.html.j2",
        about=lambda task: f"{task.modality} classification into {task.width} classes",
        right="be put in the right class",
        read=by_class,
    ),
}
"""What the report says of a target beyond its score, by the task's kind; optional."""


def write_report(
    folder: Path,
    summary: dict[str, Any],
    history: Sequence[tuple[Config, Outcome]],
    inputs: Sequence[Input],
) -> Path:
    """Write `report.html` into the folder of a finished study and return its path.

    Args:
        folder: Of the study; holds the out-of-fold predictions and `study.json`.
        summary: What `result.json` holds.
        history: All trials, in order.
        inputs: The labelled examples, of which the report shows a few.
    """
    task = Task.from_json(summary["task"])
    section, found, why_not = SECTIONS.get(task.kind), None, ""
    if section is not None:
        try:
            found = section.read(folder, summary, inputs)
        except (LedgerError, ShapeError) as error:
            why_not = str(error)
    record = json.loads((folder / STUDY_FILE).read_text("utf-8"))
    data = [record["data"] or "DATA"]  # what was in memory has no name
    data += ["--test", record["test"] or "DATA"] if summary["test"] else []
    script = files("fewshot_automl.report").joinpath("templates/sort.js").read_text()
    digest = hashlib.sha256(script.encode()).digest()
    trials = search(summary, history)
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            summary=summary,
            task=task,
            expected=expected(summary, history),
            about=section.about(task) if section else f"{task.modality} to {task.kind}",
            section=section,
            found=found,
            why_not=why_not,
            search=trials,
            tradeoffs=tradeoffs(summary, trials),
            winner=history[summary["winner"]["number"]][0],
            folder=folder.absolute(),
            quoted=shlex.quote(str(folder.absolute())),
            asked=f"fewshot fit {shlex.join(data)} {summary['asked']}",
            script=script,
            script_hash=f"sha256-{base64.b64encode(digest).decode()}",
        )
    )
    path = folder / REPORT_FILE
    # File names may hold bytes that are no text; they must not stop a report.
    path.write_text(page, "utf-8", errors="replace")
    return path


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("fewshot_automl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": words.number,
        "clipped": words.clipped,
        "duration": words.duration,
        "summary_of": words.summary_of,
        "unused": words.unused,
        "settings_of": words.settings,
        "bound_of": words.bound_of,
        "base64": lambda jpeg: base64.b64encode(jpeg).decode(),
    }
    environment.globals |= {
        "counted": counted,
        "committee": words.committee,
        "share": words.share,
        "shares": words.SHARES,
        "digits_for": words.digits_for,
        "endings": words.ENDINGS,
        "methods": METHODS,
        "measures": MEASURES,
        "Axis": Axis,
    }
    return environment
