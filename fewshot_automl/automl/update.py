"""New and corrected labels for a finished study, and the versions that come of them.

A version is a study of its own, in ``versions/N`` of the first one's folder, whose
``model`` is always the current version's.
"""

import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from fewshot_automl.automl.fit import fit, sources_of
from fewshot_automl.automl.record import ledger_of, read_record
from fewshot_automl.automl.result import (
    RESULT_FILE,
    VERSIONS_FILE,
    Listener,
    Result,
)
from fewshot_automl.automl.settings import Settings
from fewshot_automl.data import Columns, Source, read_more
from fewshot_automl.errors import UserError
from fewshot_automl.finding import counted
from fewshot_automl.ledger import read_outputs
from fewshot_automl.modalities import Input, content_hashes
from fewshot_automl.predictor import MANIFEST
from fewshot_automl.space import Config, Space
from fewshot_automl.study import parse_budget
from fewshot_automl.tasks import Task

MOST_AGAIN: Final = 5
"""Configs that are tried again on the new labels."""
INPUT, LABEL = "input", "label"
"""Columns of a version's examples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One model of a study, of the labels that there were then."""

    number: int
    parent: int | None
    date: str
    examples: int
    metric: str
    expected: float
    """Score to expect."""
    said: str
    """What it changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """All versions of a study, the first one included."""

    current: int
    rows: tuple[Version, ...]

    @classmethod
    def of(cls, folder: Path) -> "Versions":
        """Read the versions of a study; one that was never updated has one."""
        path = folder / VERSIONS_FILE
        if path.exists():
            values = json.loads(path.read_text("utf-8"))
            rows = tuple(Version(**row) for row in values["versions"])
            return cls(current=values["current"], rows=rows)
        if not (folder / RESULT_FILE).exists():
            raise UserError(
                f"Folder must be of a finished fit, got {folder}. Finish it first: "
                f"fewshot resume {folder}"
            )
        first = _version(1, None, _summary(folder), "the first fit")
        return cls(current=1, rows=(first,))

    def write(self, folder: Path) -> None:
        """Write them, and put the current one's model in its place."""
        home = folder / "versions"
        first = home / "1" / "model"
        if not first.exists():
            _link(folder / "model", first)
        _link(home / str(self.current) / "model", folder / "model")
        values = {"current": self.current, "versions": [asdict(v) for v in self.rows]}
        draft = folder / f"{VERSIONS_FILE}.writing"
        draft.write_text(json.dumps(values, indent=2), "utf-8")
        draft.replace(folder / VERSIONS_FILE)

    def study(self, folder: Path) -> Path:
        """Return the folder of the current version's study."""
        return folder if self.current == 1 else folder / "versions" / str(self.current)

    def going_to(self, number: int) -> "Versions":
        """Return the same with another one current."""
        if number not in (known := [row.number for row in self.rows]):
            raise UserError(
                f"Version must be one of {', '.join(map(str, known))}, got {number}."
            )
        return replace(self, current=number)


Labelled = list[tuple[Input, str]]
"""Examples and the names of their classes."""


@dataclass(slots=True)
class _Merged:
    """Examples by content, old and new."""

    labels: dict[str, tuple[Input, str]] = field(default_factory=dict)
    added: int = 0
    corrected: int = 0


def update(
    folder: Path | str,
    new: Source | None = None,
    *,
    new_labels: object = None,
    rename: Mapping[str, str] | None = None,
    drop: Sequence[str] = (),
    search: str | float | None = None,
    data: Source | None = None,
    labels: object = None,
    progress: bool | None = None,
    listener: Listener | None = None,
    started: float | None = None,
) -> Result:
    """Learn from new and corrected labels; what was found stays found.

    The best Configs that could not be told apart are tried again on all labels, and the
    model is made of them. Frozen activations of known examples are not computed again.

    Args:
        folder: The `out` folder of a fit.
        new: Rows like those of the fit. One whose text or image is known corrects the
            label of that; others are added. None for none.
        new_labels: Labels beside `new`, for lists.
        rename: New names of classes; two of one name are merged.
        drop: Classes to leave out, with their examples.
        search: Time to search on, as ``"5min"``, if another Config leads now.
        data: The fit's data again, if they were in memory or have moved.
        labels: Their labels again, if they were given beside the data.
        progress: Whether to show what happens; see `fit`.
        listener: Hears what happens, in place of `progress`.
        started: `time.monotonic()` from which the time counts; now if None.

    Raises:
        UserError: If there is no finished study, or nothing new.
    """
    began, folder = time.monotonic() if started is None else started, Path(folder)
    versions = Versions.of(folder)
    old = versions.study(folder)
    record, summary = read_record(old), _summary(old)
    settings, task = (
        Settings.from_json(record["settings"]),
        Task.from_json(summary["task"]),
    )
    source, _ = sources_of(old, record, data, None)
    manifest = json.loads((old / "model" / MANIFEST).read_text("utf-8"))
    columns = Columns.from_json(manifest["columns"])
    before = _labelled(source, labels, task, columns)
    more = [] if new is None else _labelled(new, new_labels, task, columns)
    merged = _merged(before, more)
    changed: dict[str, str | None] = {**dict.fromkeys(drop), **(rename or {})}
    if odd := sorted(changed.keys() - {label for _, label in before}):
        raise UserError(f"Class to rename or drop must be known, got {', '.join(odd)}.")
    if not (merged.added or merged.corrected or changed):
        raise UserError(
            "An update must bring new or other labels, got only what is known."
        )
    kept = {
        key: (example, changed.get(label, label))
        for key, (example, label) in merged.labels.items()
    }
    kept = {key: pair for key, pair in kept.items() if pair[1] is not None}
    number = max(row.number for row in versions.rows) + 1
    home = folder / "versions" / str(number)
    shutil.rmtree(home, ignore_errors=True)  # of an update that was broken off
    again = _again(old, summary)
    asked = replace(
        settings,
        target=LABEL,
        inputs={task.modality: INPUT},
        modality=None,
        target_kind=task.kind,
        budget_seconds=None,
        trials=len(again),
    )
    place = _write_examples(home.with_name(f"{number}-labels.parquet"), kept.values())
    about: Any = {"progress": progress, "listener": listener, "follows": old}
    about |= {"out": home, "begins_with": again}
    result = fit(place, settings=asked, started=began, **about)
    seconds = parse_budget(search) if isinstance(search, str) else search
    if seconds and result.config != again[0]:
        used = float(result.summary["seconds"])
        longer = replace(asked, trials=None, budget_seconds=used + seconds)
        result = fit(place, settings=longer, **about)
    mistakes = _mistakes(old, summary, result)
    said = _in_words(merged, changed, summary, mistakes, result)
    row = _version(number, versions.current, result.summary, said)
    Versions(current=number, rows=(*versions.rows, row)).write(folder)
    return result


def _merged(before: Labelled, new: Labelled) -> _Merged:
    """Return all examples; a label that is given again takes the place of the old."""
    merged = _Merged()
    for key, pair in zip(content_hashes([x for x, _ in before]), before, strict=True):
        merged.labels[key] = pair
    for key, pair in zip(content_hashes([x for x, _ in new]), new, strict=True):
        if key not in merged.labels:
            merged.added += 1
        elif merged.labels[key][1] != pair[1]:
            merged.corrected += 1
        merged.labels[key] = pair
    return merged


def _labelled(source: Source, labels: Any, task: Task, columns: Columns) -> Labelled:
    examples, whole = read_more(source, task, columns, labels)
    known = examples.labelled(whole)
    return [
        (example, whole.names[target])
        for example, target in zip(known.inputs, known.targets, strict=True)
    ]


def _write_examples(path: Path, pairs: Iterable[tuple[Input, str]]) -> Path:
    """Write examples as a table; images that are files stay where they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        (str(x.absolute()) if isinstance(x, Path) else x, label) for x, label in pairs
    ]
    pd.DataFrame(rows, columns=[INPUT, LABEL]).to_parquet(path, index=False)
    return path


def _again(folder: Path, summary: Mapping[str, Any]) -> tuple[Config, ...]:
    """Return the members of a model, and then who cannot be told from the first."""
    history = ledger_of(folder, Space(())).history()
    numbers = [one["number"] for one in summary["members"]]
    rest = sorted(summary["indistinguishable"], key=lambda i: -history[i][1].mean)
    return tuple(history[i][0] for i in dict.fromkeys([*numbers, *rest]))[:MOST_AGAIN]


def _in_words(
    merged: _Merged,
    changed: Mapping[str, str | None],
    old: Mapping[str, Any],
    mistakes: tuple[int, int, int],
    result: Result,
) -> str:
    metric, before, after = result.task.metric, old["score"], result.score
    parts = [counted(merged.added, "new example")] if merged.added else []
    parts += [counted(merged.corrected, "corrected label")] if merged.corrected else []
    parts += [f"{a} {f'is now {b}' if b else 'dropped'}" for a, b in changed.items()]
    had, mended, broken = mistakes
    said = (
        f"{', '.join(parts)}: {metric.replace('_', ' ')} to expect "
        f"{before['expected']:.3f} before, {after.expected:.3f} now"
    )
    if had:
        said += f"; of {counted(had, 'earlier mistake')} {mended} right now"
    return said + (f"; {counted(broken, 'right answer')} wrong now." if broken else ".")


def _mistakes(
    old: Path, summary: Mapping[str, Any], result: Result
) -> tuple[int, int, int]:
    """Return old mistakes, how many are right now, and right answers wrong now.

    Of examples that both models predicted in cross-validation and whose label is the
    same.
    """
    sides = []
    for folder, facts in ((old, summary), (result.folder, result.summary)):
        task, labels = Task.from_json(facts["task"]), facts["labels"]
        outputs = read_outputs(folder / facts["predictions"])
        mean = np.nanmean(outputs, axis=0)
        there = np.isfinite(mean).all(axis=1)
        answers = task.rules.decode(np.nan_to_num(mean))
        names = [task.names[label] for label in labels]
        rows = zip(facts["keys"], there, names, answers, strict=True)
        sides.append({key: (name, answer) for key, ok, name, answer in rows if ok})
    first, second = sides
    same = [k for k in first.keys() & second.keys() if first[k][0] == second[k][0]]
    was, now = ({k: side[k][0] == side[k][1] for k in same} for side in sides)
    wrong = [k for k in same if not was[k]]
    broken = sum(was[k] and not now[k] for k in same)
    return len(wrong), sum(now[k] for k in wrong), broken


def _version(
    number: int, parent: int | None, summary: Mapping[str, Any], said: str
) -> Version:
    return Version(
        number=number,
        parent=parent,
        date=summary.get("date") or datetime.now(UTC).isoformat(timespec="seconds"),
        examples=summary["labelled"],
        metric=summary["score"]["metric"],
        expected=summary["score"]["expected"],
        said=said,
    )


def _summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / RESULT_FILE).read_text("utf-8"))
    return found


def _link(source: Path, target: Path) -> None:
    """Put a model at another place too, whole or not at all, without copying files."""
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
