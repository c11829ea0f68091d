"""Reading a source: into a dataset with its task, or as a known task needs it."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from fewshot_automl.cells import label_text
from fewshot_automl.data.examples import Columns, Dataset, Examples, Table
from fewshot_automl.data.infer import (
    InputChoice,
    choose_input,
    choose_target,
    kind_of,
    require,
)
from fewshot_automl.data.sources import Source, read_table
from fewshot_automl.errors import DataError
from fewshot_automl.finding import Finding, counted
from fewshot_automl.modalities import modality_named
from fewshot_automl.tasks import TASK_KINDS, Task, kind_named

LABEL: Final = "label"
"""Column of labels where the user's own data name none."""


def read(
    source: Source,
    *,
    target: str | None = None,
    inputs: Mapping[str, str] | None = None,
    modality: str | None = None,
    target_kind: str | None = None,
    metric: str | None = None,
    labels: Iterable[object] | None = None,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
    tidy_labels: bool = False,
    describe: Mapping[str, str] | None = None,
    unlabelled: Source | None = None,
    cost: Mapping[str, float] | None = None,
    abstain_cost: float | None = None,
    deploy_prevalence: Mapping[str, float] | None = None,
) -> Dataset:
    """Read examples and infer the task they pose; `inferred` says what was inferred.

    Args:
        source: A file, folder, DataFrame, list, array, `datasets` object or hub name.
        target: The column of labels; must be named for tables.
        inputs: The column of the examples by what it holds, such as
            ``{"text": "review"}``; None infers it.
        modality: What an example is; None infers it.
        target_kind: What the target is; None infers it. Naming it also lets number
            codes and joined labels through as classes.
        metric: The metric to maximise; None takes the kind's default.
        labels: Labels beside the source; None, NaN or blank where there is none.
        split: Which split to read of a source that has several.
        class_names: The classes in order; None sorts the ones found.
        tidy_labels: Whether spellings of one class are joined, and those of nothing
            are no labels.
        describe: What classes are, in words, by their names.
        cost: What mistakes cost, by ``"true->answer"``; others cost 1.
        abstain_cost: What it costs not to answer; None if there always is an answer.
        deploy_prevalence: How frequent classes will be in use, by their names.
        unlabelled: More examples; their labels, if there are any, are not looked at.

    Raises:
        DataError: If the source cannot be read or holds nothing to learn from.
        TaskError: If the target is of a kind that is not supported.

    >>> dataset = read(["so good", "so bad", "hm"], labels=["pos", "neg", None])
    >>> dataset.task.names, dataset.examples.targets.tolist()
    (('neg', 'pos'), [1, 0, -1])
    """
    table = read_table(source, split=split).with_labels(labels)
    column, target_notes = choose_target(table, target)
    chosen = choose_input(table, inputs or {}, modality, column)
    if tidy_labels:
        table = table.tidied(column, class_names or ())
    held = table.column(column)
    if target_kind is not None:
        kind = kind_named(target_kind)
    else:
        kind = next(row for row in reversed(TASK_KINDS.values()) if row.claims(held))
    try:
        targets, names = kind.read(held, class_names, is_sure=target_kind is not None)
    except DataError as error:  # what was left out may be why
        raise DataError(f"{error}{table.said()}") from error
    task = Task(
        modality=chosen.modality, kind=kind.name, names=names, metric=metric or ""
    ).describing(describe or {})
    task = task.costing(targets, cost or {}, abstain_cost, deploy_prevalence or {})
    notes = (*table.notes, *chosen.notes, *target_notes, task.rules.describe(targets))
    telling = _telling_columns(table, column, {column, chosen.column})
    columns = Columns(
        input=chosen.column if table.is_named else None,
        target=column if table.is_named and labels is None else None,
        is_tidied=tidy_labels,
    )
    examples = _examples(table, chosen, targets)
    if unlabelled is not None:
        more = read_inputs(unlabelled, task, columns)
        examples = examples.and_more(more)
        notes += (f"{counted(len(more), 'example')} more without labels.",)
    return Dataset(
        examples=examples,
        task=task,
        columns=columns,
        inferred=notes,
        findings=(*table.findings, *telling),
    )


def read_inputs(
    source: Source, task: Task, columns: Columns, *, prefer: tuple[str, ...] = ()
) -> Examples:
    """Read examples to predict for; labels, if there are any, are not looked at.

    `columns` says where the training examples stood; of splits the first that `prefer`
    names is read.
    """
    table = read_table(source, prefer=prefer)
    chosen = _stored_input(table, task, columns)
    return _examples(table, chosen, task.rules.no_targets(len(table)))


def read_like(
    source: Source, task: Task, columns: Columns, target: str | None = None
) -> Examples:
    """Read labelled examples of a known task, to score a model on them.

    Of a folder or dataset with splits the test split is read. `columns` says where the
    training examples stood; a `target` wins over it.

    Raises:
        DataError: If a label is not a class of the task, none is labelled, or the
            source cannot be read.
    """
    table = read_table(source, prefer=("test", "validation"))
    if target is None and table.is_named:
        target = columns.target
    column, _ = choose_target(table, target)
    if columns.is_tidied:
        table = table.tidied(column, task.names)
    chosen = _stored_input(table, task, columns)
    targets, _ = task.rules.read(table.column(column), task.names, is_sure=True)
    if not task.rules.is_labelled(targets).any():
        raise DataError(
            f"Test data must have labels, got none in column {column!r} of "
            f"{table.name}."
        )
    return _examples(table, chosen, targets)


def read_more(
    source: Source, task: Task, columns: Columns, labels: Iterable[object] | None = None
) -> tuple[Examples, Task]:
    """Read examples to learn from, some of them perhaps of new classes.

    Where the fit's examples had no columns, labels stand in the column `LABEL`.

    Returns:
        The examples, and the task with the classes that they have.
    """
    table = read_table(source).with_labels(labels)
    is_named = table.is_named and labels is None
    column, _ = choose_target(table, (columns.target or LABEL) if is_named else None)
    if columns.is_tidied:
        table = table.tidied(column, task.names)
    found = {label_text(cell) for cell in table.columns[column]} - {None, *task.names}
    names = (*task.names, *sorted(filter(None, found)))
    whole = replace(task, names=names, described=(), costs=None)
    targets, _ = whole.rules.read(table.column(column), names, is_sure=True)
    return _examples(table, _stored_input(table, task, columns), targets), whole


def read_beside(
    source: Source, task: Task, columns: Columns
) -> tuple[Examples, dict[str, Sequence[object]]]:
    """Read examples, and the cells of columns that are neither input nor label."""
    table = read_table(source)
    chosen = _stored_input(table, task, columns)
    used = {chosen.column, table.target, columns.target}
    beside = {name: cells for name, cells in table.columns.items() if name not in used}
    return _examples(table, chosen, task.rules.no_targets(len(table))), beside


def _stored_input(table: Table, task: Task, columns: Columns) -> InputChoice:
    if table.is_named and columns.input is not None:
        column = require(table, columns.input, task.modality)
        return InputChoice(task.modality, column)
    return choose_input(table, {}, task.modality, table.target or columns.target)


def _examples(table: Table, chosen: InputChoice, targets: np.ndarray) -> Examples:
    read_cell = modality_named(chosen.modality).read
    cells = zip(table.columns[chosen.column], table.origins, strict=True)
    inputs = tuple(read_cell(cell, table.folder, origin) for cell, origin in cells)
    paths = [item for item in inputs if isinstance(item, Path)]
    if len(paths) == len(inputs) and not any(path.exists() for path in paths):
        # Then the folder is wrong, not the images.
        raise DataError(
            f"Paths must be relative to '{table.folder or Path.cwd()}' or absolute, "
            f"got '{paths[0]}' in {table.origins[0]}, and none of them exists. Move "
            f"the {'table' if table.folder else 'working folder'}, or mend the paths; "
            f"addresses on the web are not fetched.{table.said()}"
        )
    with contextlib.suppress(UnicodeDecodeError):  # as images raise
        texts = [item.decode() for item in inputs if isinstance(item, bytes) and item]
        if texts and not texts[0].startswith(("P1", "P2", "P3")):  # images in digits
            raise DataError(
                f"Bytes must be encoded images, got text ({texts[0][:40]!r}) in "
                f"{table.name}. Decode it first: [text.decode() for text in texts]."
            )
    return Examples(inputs=inputs, targets=targets, origins=table.origins)


def _telling_columns(table: Table, target: str, used: set[str]) -> list[Finding]:
    """Return a note for each unused column that tells the label one to one."""
    labels = [label_text(cell) for cell in table.columns[target]]
    known = [row for row, label in enumerate(labels) if label is not None]
    values = len({labels[row] for row in known})
    message = (
        "Column {!r} tells the label one to one in all "
        f"{counted(len(known), 'labelled row')}. It is not used as input."
    )
    found = []
    for name, cells in table.columns.items():
        if name not in used and kind_of(cells) in ("text", "number"):
            pairs = {(label_text(cells[row]), labels[row]) for row in known}
            if len(pairs) == values == len({value for value, _ in pairs}):
                said, kind = message.format(name), "telling column"
                found.append(Finding(kind=kind, severity="note", message=said))
    return found
