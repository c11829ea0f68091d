"""Reading a source: into a dataset with its task, or as a known task needs it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from fewshot_automl.data.cells import as_image, as_text
from fewshot_automl.data.classes import (
    choose_classes,
    class_labels,
    refuse_multilabel,
    refuse_numbers,
    target_kind_of,
    telling_columns,
)
from fewshot_automl.data.examples import Columns, Dataset, Examples
from fewshot_automl.data.infer import (
    InputChoice,
    choose_input,
    choose_target,
    require,
)
from fewshot_automl.data.sources import Source, read_table
from fewshot_automl.data.table import Table
from fewshot_automl.errors import DataError
from fewshot_automl.inputs import Input
from fewshot_automl.task import (
    DEFAULT_METRIC,
    UNLABELLED,
    Modality,
    TargetKind,
    Task,
)


def read(
    source: Source,
    *,
    target: str | None = None,
    text: str | None = None,
    image: str | None = None,
    modality: Modality | None = None,
    target_kind: TargetKind | None = None,
    metric: str | None = None,
    labels: Iterable[object] | None = None,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
) -> Dataset:
    """Read examples and infer the task they pose; `inferred` says what was inferred.

    Args:
        source: A file, folder, DataFrame, list, array, `datasets` object or hub name.
        target: The column of labels; must be named for tables.
        text: The column of texts; None infers it.
        image: The column of images or image paths; None infers it.
        modality: What an example is; None infers it.
        target_kind: What the target is; None infers it. Naming it also lets number
            codes and joined labels through as classes.
        metric: The objective to maximise; None takes the kind's default.
        labels: Labels beside the source, one for each example; None, NaN or blank
            where there is none.
        split: Which split to read of a source that has several.
        class_names: The classes in order; None sorts the ones found.

    Raises:
        DataError: If the source cannot be read or holds nothing to learn from.
        TaskError: If the target is of a kind that is not supported.

    >>> dataset = read(["so good", "so bad", "hm"], labels=["pos", "neg", None])
    >>> dataset.task.class_names, dataset.examples.labels.tolist()
    (('neg', 'pos'), [1, 0, -1])
    """
    table = read_table(source, split=split)
    table = table if labels is None else table.with_labels(labels)
    column, target_notes = choose_target(table, target)
    chosen = choose_input(
        table, text=text, image=image, modality=modality, target=column
    )
    names = class_labels(table, column)
    if target_kind is None:
        refuse_multilabel(names, table.origins)
        refuse_numbers(names, column)
    classes = choose_classes(names, table, class_names)
    kind = target_kind or target_kind_of(len(classes))
    task = Task(
        modality=chosen.modality,
        target=kind,
        class_names=classes,
        metric=metric or DEFAULT_METRIC[kind],
    )
    indices = _indices(names, classes)
    notes = (*table.notes, *chosen.notes, *target_notes, _described(indices, task))
    return Dataset(
        examples=_examples(table, chosen, indices),
        task=task,
        columns=_columns(table, chosen, None if labels is not None else column),
        inferred=notes,
        findings=(
            *table.findings,
            *telling_columns(table, names, {column, chosen.column}),
        ),
    )


def read_inputs(
    source: Source, task: Task, columns: Columns, *, split: str | None = None
) -> Examples:
    """Read examples to predict for; labels, if there are any, are not looked at.

    Args:
        source: As for `read`.
        task: What the model was made for.
        columns: Where its training examples stood.
        split: Which split to read of a source that has several.

    Raises:
        DataError: If the source cannot be read or lacks the column.

    >>> task = Task(modality="text", target="binary", class_names=("neg", "pos"))
    >>> read_inputs(["what a day"], task, Columns()).labels.tolist()
    [-1]
    """
    table = read_table(source, split=split, prefer=())
    chosen = _stored_input(table, task, columns)
    return _examples(table, chosen, np.full(len(table), UNLABELLED, dtype=np.int64))


def read_like(
    source: Source,
    task: Task,
    columns: Columns,
    target: str | None = None,
    *,
    labels: Iterable[object] | None = None,
    split: str | None = None,
) -> Examples:
    """Read labelled examples of a known task, to score a model on them.

    Of a folder or dataset with splits the test split is read.

    Args:
        source: As for `read`.
        task: What the model was made for; labels become indices of its classes.
        columns: Where its training examples stood.
        target: The column of labels; None takes the one in `columns`.
        labels: Labels beside the source, one for each example.
        split: Which split to read; None prefers the test split.

    Raises:
        DataError: If a label is not a class of the task, none is labelled, or the
            source cannot be read.
    """
    table = read_table(source, split=split, prefer=("test", "validation"))
    table = table if labels is None else table.with_labels(labels)
    if target is None and table.is_named and labels is None:
        target = columns.target
    column, _ = choose_target(table, target)
    chosen = _stored_input(table, task, columns)
    names = class_labels(table, column)
    for name, origin in zip(names, table.origins, strict=True):
        if name is not None and name not in task.class_names:
            raise DataError(
                f"Label must be one of {', '.join(map(repr, task.class_names))}, got "
                f"{name!r} in {origin}. The model does not know other classes; "
                "correct or remove the row."
            )
    if all(name is None for name in names):
        raise DataError(
            f"Test data must have labels, got none in column {column!r} of "
            f"{table.name}."
        )
    return _examples(table, chosen, _indices(names, task.class_names))


def _stored_input(table: Table, task: Task, columns: Columns) -> InputChoice:
    stored = columns.text if task.modality == "text" else columns.image
    if table.is_named and stored is not None:
        column = require(table, stored, task.modality)
        return InputChoice(modality=task.modality, column=column)
    is_there = columns.target is not None and columns.target in table.columns
    target = table.target or (columns.target if is_there else None)
    return choose_input(
        table, text=None, image=None, modality=task.modality, target=target
    )


def _indices(
    names: Sequence[str | None], classes: Sequence[str]
) -> Int[np.ndarray, " examples"]:
    place = {name: index for index, name in enumerate(classes)}
    indices = [UNLABELLED if name is None else place[name] for name in names]
    return np.array(indices, dtype=np.int64)


def _examples(
    table: Table, chosen: InputChoice, labels: Int[np.ndarray, " examples"]
) -> Examples:
    cells = list(zip(table.columns[chosen.column], table.origins, strict=True))
    inputs: tuple[Input, ...]
    if chosen.modality == "text":
        inputs = tuple(as_text(cell, origin) for cell, origin in cells)
    else:
        inputs = tuple(as_image(cell, table.folder, origin) for cell, origin in cells)
        _require_some_file(inputs, table)
    return Examples(inputs=inputs, labels=labels, origins=table.origins)


def _require_some_file(images: Sequence[Input], table: Table) -> None:
    """Refuse paths that all lead nowhere: then the folder is wrong, not the images."""
    paths = [image for image in images if isinstance(image, Path)]
    if len(paths) < len(images) or any(path.exists() for path in paths):
        return
    raise DataError(
        f"Image paths must be relative to '{table.folder or Path.cwd()}' or absolute, "
        f"got '{paths[0]}' in {table.origins[0]}, and none of them exists. Move the "
        f"{'table' if table.folder else 'working folder'}, or mend the paths; "
        "addresses on the web are not fetched."
    )


def _columns(table: Table, chosen: InputChoice, target: str | None) -> Columns:
    if not table.is_named:
        return Columns()
    return Columns(
        text=chosen.column if chosen.modality == "text" else None,
        image=chosen.column if chosen.modality == "image" else None,
        target=target,
    )


def _described(labels: Int[np.ndarray, " examples"], task: Task) -> str:
    labelled = int((labels != UNLABELLED).sum())
    names = ", ".join(map(repr, task.class_names[:10]))
    more = ", ..." if task.classes > 10 else ""
    rest = len(labels) - labelled
    unlabelled = f", {rest:,} unlabelled" if rest else ""
    return (
        f"Target: {task.target}, {task.classes} classes ({names}{more}); "
        f"{labelled:,} labelled{unlabelled}."
    )
