"""New and corrected labels for a finished study."""

import io
import operator
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from fewshot_automl.automl.candidates import candidates
from fewshot_automl.automl.finished import Finished
from fewshot_automl.automl.fit import fit, sources_of
from fewshot_automl.automl.result import (
    Listener,
    Result,
)
from fewshot_automl.automl.settings import AUTO, Settings
from fewshot_automl.data import LABEL, Columns, Source, read_inputs, read_more
from fewshot_automl.errors import UserError
from fewshot_automl.finding import counted
from fewshot_automl.modalities import (
    Input,
    content_hash,
    modality_named,
    open_image,
)
from fewshot_automl.space import Config
from fewshot_automl.study import parse_budget
from fewshot_automl.tasks import Task
from fewshot_automl.tasks.costs import ARROW

SHARE: Final = 0.1
"""Of the time that the first study took, for an update if nobody says how long."""
REST_SECONDS: Final = 6.0
"""Of an update, besides trainings: loading, cheap trials, saving, the report."""
INPUT: Final = "input"
"""Column of a version's examples, where those of the fit had no names."""


Pair = tuple[Input, str | None]
"""An example and the name of its class; None where nobody has labelled it."""
Changed = Mapping[str, str | None]
"""New names of classes; None for those that are dropped."""


def update(
    folder: Path | str,
    new: Source | None = None,
    *,
    new_labels: object = None,
    rename: Mapping[str, str] | None = None,
    drop: Sequence[str] = (),
    budget: str | float | None = None,
    search: str | float | None = None,
    data: Source | None = None,
    labels: object = None,
    progress: bool | None = None,
    listener: Listener | None = None,
    started: float | None = None,
) -> Result:
    """Learn from new and corrected labels; what was found stays found.

    The members of the model, and the best Configs that could not be told apart from it,
    are tried again on all labels, and the new model is made of them. Frozen activations
    of known examples are not computed again.

    Members that train by steps are tried again where there is time. Else they are
    scored by the predictions that they have: the earlier cross-validated ones, and the
    earlier model's of new examples. They are fitted to all labels once, or if there is
    no time for that either, stay as they are. Members of a model whose classes changed
    cannot stay.

    Args:
        folder: The `out` folder of a fit.
        new: Rows like those of the fit. One whose text or image is known corrects the
            label of that; others are added. None for none.
        new_labels: Labels beside `new`, for lists.
        rename: New names of classes; two of one name are merged.
        drop: Classes to leave out, with their examples.
        budget: Time for it all, as ``"30s"`` or seconds, which decides how members
            that train are fitted; a tenth of the study's time if None. Cheap members
            are fitted in any case.
        search: Time to search on, as ``"5min"``, if another Config leads now.
        data: The fit's data again, if they were in memory or have moved.
        labels: Their labels again, if they were given beside the data.
        progress: Whether to show what happens; see `fit`.
        listener: Hears what happens, in place of `progress`.
        started: `time.monotonic()` from which the time counts; now if None.

    Raises:
        UserError: If there is no finished study, or nothing new.
        KeyboardInterrupt: If it is broken off; then no version is made.
    """
    began, old = time.monotonic() if started is None else started, Finished.of(folder)
    summary, settings = old.summary, old.settings
    task, columns = old.task, old.columns
    source, _ = sources_of(old.folder, old.record, data, None)
    before = _pairs(source, labels, task, columns)
    if settings.unlabelled is not None:
        others = read_inputs(settings.unlabelled, task, columns).inputs
        before += [(example, None) for example in others]
    more = [] if new is None else _pairs(new, new_labels, task, columns)
    pairs, added, corrected = _merged(task.modality, before, more)
    changed: dict[str, str | None] = {**dict.fromkeys(drop), **(rename or {})}
    if odd := sorted(changed.keys() - {label for _, label in (*before, *more)}):
        raise UserError(f"Class to rename or drop must be known, got {', '.join(odd)}.")
    if not (added or corrected or changed):
        raise UserError(
            "An update must bring new or other labels, got only what is known."
        )
    kept: list[Pair] = [
        (example, label and changed.get(label, label))
        for example, label in pairs
        if label is None or changed.get(label, label) is not None
    ]
    left = {label for _, label in kept}
    gone = (name for name in task.names if changed.get(name, name) not in left)
    changed = {**dict.fromkeys(gone), **changed}
    number, home = old.next_version()
    most = parse_budget(budget) if isinstance(budget, str) else budget
    rest = SHARE * summary["seconds"] if most is None else most
    rest -= time.monotonic() - began + REST_SECONDS
    renamed = [changed.get(name, name) for name in task.names]
    known = [name for name in dict.fromkeys(renamed) if name is not None]
    classes = [*known, *sorted(x for x in left if x and x not in known)]
    stored = {
        content_hash(x): (content_hash(_stored(x)), x)
        for x, label in kept
        if label is not None
    }
    notes: list[str] = []
    again, carried = candidates(old, stored, renamed, classes, rest, notes.append)
    names = columns.input or INPUT, columns.target or LABEL
    asked = replace(
        _renamed(settings, changed, left),
        target=names[1],
        inputs={task.modality: names[0]},
        modality=None,
        target_kind=task.kind,
        metric=task.metric,
        unlabelled=None,
        study=None,
        budget_seconds=None,
        trials=len(again) + len(carried.outputs),
        # Nothing is timed for so few trials.
        workers=1 if settings.runs_in == AUTO else settings.workers,
    )
    place = home.with_name(f"{number}-labels.parquet")
    _write_examples(place, names, kept, classes)
    about: Any = {"progress": progress, "listener": listener, "follows": old.folder}
    about |= {"out": home, "begins_with": again, "carried": carried}
    result = fit(place, settings=asked, started=began, **about)
    seconds = parse_budget(search) if isinstance(search, str) else search
    if seconds and result.config != _leader(summary):
        used = float(result.summary["seconds"])
        longer = replace(asked, trials=None, budget_seconds=used + seconds)
        longer = replace(longer, workers=settings.workers)
        result = fit(place, settings=longer, **about)
    if result.summary["ending"] == "interrupted":
        raise KeyboardInterrupt  # the version before stays the current one
    mistakes = _mistakes(old, result)
    counts = added, corrected
    said = _in_words(counts, changed, summary, mistakes, result)
    said = "; ".join([said.rstrip("."), *notes]) + "."
    old.add(number, result.summary, said)
    return result


def _merged(
    modality: str, before: Sequence[Pair], new: Sequence[Pair]
) -> tuple[list[Pair], int, int]:
    """Return all examples, and how many labels are new and how many corrected.

    A label that is given again takes the place of the old. What the audit takes for
    copies is one example, and what cannot be read is none.
    """
    merged: dict[str, Pair] = {}
    added = corrected = 0
    looks = modality_named(modality).look([x for x, _ in (*before, *new)])
    pairs = zip((*before, *new), looks, strict=True)
    for row, ((example, label), look) in enumerate(pairs):
        known = merged.get(look.key)
        if not look.key or (known is not None and label is None):
            continue
        if row >= len(before) and label is not None:
            earlier = known and known[1]
            added += earlier is None
            corrected += earlier not in (None, label)
        # The old one stands for copies: what was computed of it is kept by its content.
        merged[look.key] = example if known is None else known[0], label
    return list(merged.values()), added, corrected


def _pairs(source: Source, labels: Any, task: Task, columns: Columns) -> list[Pair]:
    examples, whole = read_more(source, task, columns, labels)
    is_known = whole.rules.is_labelled(examples.targets)
    return [
        (example, whole.names[target] if known else None)
        for example, target, known in zip(
            examples.inputs, examples.targets, is_known, strict=True
        )
    ]


def _renamed(settings: Settings, changed: Changed, left: set[str | None]) -> Settings:
    """Return settings that call classes as they are called now, and name no other."""

    def called(values: Mapping[str, Any], both: Callable[..., Any] = max) -> Any:
        made: dict[str, Any] = {}
        for name, value in values.items():  # a cost is of two classes
            ends = [changed.get(end, end) for end in map(str.strip, name.split(ARROW))]
            if None not in ends and len(set(ends)) == len(ends):
                key = ARROW.join(map(str, ends))
                made[key] = both(value, made[key]) if key in made else value
        return made

    shares = called(settings.deploy_prevalence, operator.add)
    if shares.keys() >= left - {None}:  # then they are all there is
        whole = sum(shares.values())
        shares = {name: share / whole for name, share in shares.items()}
    return replace(
        settings,
        cost=called(settings.cost),
        min_recall=called(settings.min_recall),
        deploy_prevalence=shares,
        describe=called(settings.describe),
    )


def _write_examples(
    path: Path, names: tuple[str, str], pairs: Sequence[Pair], classes: Sequence[str]
) -> None:
    """Write examples as a table; images that are all files stay where they are.

    The classes keep their order.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [_stored(x) for x, _ in pairs]
    if all(isinstance(x, str | Path) for x in cells):
        cells = [str(x.absolute()) if isinstance(x, Path) else x for x in cells]
    else:  # a column has cells of one type
        cells = [x.read_bytes() if isinstance(x, Path) else x for x in cells]
    rows = pd.DataFrame({names[0]: cells, names[1]: [label for _, label in pairs]})
    kind = pd.CategoricalDtype(list(classes), ordered=True)
    rows.astype({names[1]: kind}).to_parquet(path, index=False)


def _stored(example: Input) -> Input:
    """Return what a table can hold of an example: pixels become an encoded image."""
    if not isinstance(example, np.ndarray):
        return example
    encoded = io.BytesIO()
    open_image(example).save(encoded, "PNG")
    return encoded.getvalue()


def _leader(summary: Mapping[str, Any]) -> Config:
    return Config.from_json(summary["members"][0]["config"])


def _in_words(
    counts: tuple[int, int],
    changed: Changed,
    old: Mapping[str, Any],
    mistakes: tuple[int, int, int],
    result: Result,
) -> str:
    metric, before, after = result.task.metric, old["score"], result.score
    things = zip(counts, ("new example", "corrected label"), strict=True)
    parts = [counted(number, thing) for number, thing in things if number]
    parts += [f"{a} {f'is now {b}' if b else 'dropped'}" for a, b in changed.items()]
    had, mended, broken = mistakes
    said = (
        f"{', '.join(parts)}: {metric.replace('_', ' ')} to expect "
        f"{before['expected']:.3f} before, {after.expected:.3f} now"
    )
    if had:
        said += f"; of {counted(had, 'earlier mistake')} {mended} are right now"
    return said + (
        f"; {counted(broken, 'earlier right answer')} wrong now." if broken else "."
    )


def _mistakes(old: Finished, result: Result) -> tuple[int, int, int]:
    """Return old mistakes, how many are right now, and right answers wrong now.

    Of examples that both models predicted in cross-validation and whose label is the
    same.
    """
    sides = []
    for study in (old, replace(old, folder=result.folder, summary=result.summary)):
        names, keys = study.task.names, study.summary["keys"]
        there = np.isfinite(study.outputs).all(axis=1)
        answers = study.task.rules.decode(np.nan_to_num(study.outputs))
        labels = [names[label] for label in study.summary["labels"]]
        rows = zip(keys, there, labels, answers, strict=True)
        sides.append({key: (label, answer) for key, ok, label, answer in rows if ok})
    first, second = sides
    same = [k for k in first.keys() & second.keys() if first[k][0] == second[k][0]]
    was, now = ({k: side[k][0] == side[k][1] for k in same} for side in sides)
    wrong = [k for k in same if not was[k]]
    broken = sum(was[k] and not now[k] for k in same)
    return len(wrong), sum(now[k] for k in wrong), broken
