"""Which classes a target column names, and which targets name no classes."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from fewshot_automl.data.cells import kind_of, label_text, natural_order, number
from fewshot_automl.data.findings import Finding, counted
from fewshot_automl.data.table import Table
from fewshot_automl.errors import DataError, TaskError
from fewshot_automl.task import TargetKind

_REGRESSION_VALUES: Final = 10
"""More distinct decimals than this measure something; they do not name classes."""
_REGRESSION_CODES: Final = 20
"""More distinct whole numbers than this, each rare, measure something too."""


def class_labels(table: Table, column: str) -> list[str | None]:
    """Return the class name in each row, None where there is no label.

    Raises:
        TaskError: If a cell holds several labels.
    """
    for cell, origin in zip(table.columns[column], table.origins, strict=True):
        if isinstance(cell, (list, tuple, set, dict, np.ndarray)):
            raise TaskError(_one_class_a_row(cell, origin))
    return [label_text(cell) for cell in table.columns[column]]


def refuse_multilabel(labels: Sequence[str | None], origins: Sequence[str]) -> None:
    """Refuse cells that join several classes, such as ``anger|joy``.

    A cell counts if most of its parts are known from elsewhere, so that a class that
    merely has a comma in its name is left alone.

    Raises:
        TaskError: If at least one cell joins classes.
    """
    for separator in "|;,":
        joined = [
            (label, origin)
            for label, origin in zip(labels, origins, strict=True)
            if label is not None and separator in label
        ]
        single = {label for label in labels if label is not None} - {
            label for label, _ in joined
        }
        parts = [{p.strip() for p in label.split(separator)} for label, _ in joined]
        known = sum(len(names & single) for names in parts)
        if joined and known > sum(map(len, parts)) / 2:
            raise TaskError(_one_class_a_row(*joined[0]))


def _one_class_a_row(cell: object, origin: str) -> str:
    return (
        f"Target must name one class a row, got {cell!r} in {origin}. Several labels "
        "at once are not supported yet: keep one a row, or set the target kind to "
        "multiclass to take each combination of words as a class."
    )


def refuse_numbers(labels: Sequence[str | None], column: str) -> None:
    """Refuse a target that measures something instead of naming classes.

    Raises:
        TaskError: If it has many distinct numbers, each of them rare.
    """
    given = [label for label in labels if label is not None]
    values = [value for label in given if (value := number(label)) is not None]
    distinct = len(set(values))
    if not given or len(values) < len(given):
        return
    is_whole = all(value.is_integer() for value in values)
    is_rare = len(values) < 5 * distinct
    if distinct > (_REGRESSION_CODES if is_whole else _REGRESSION_VALUES) and (
        is_rare or not is_whole
    ):
        raise TaskError(
            f"Target {column!r} must name classes, got {distinct} distinct numbers "
            f"from {min(values):g} to {max(values):g}. Predicting numbers is not "
            "supported yet: group them into a few named classes, or set the target "
            "kind to multiclass if they are codes of classes."
        )


def choose_classes(
    labels: Sequence[str | None], table: Table, wanted: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the class names in order: as asked, as declared, or naturally sorted.

    Raises:
        DataError: If nothing is labelled, all of one class, or a class is not wanted.
    """
    found = Counter(label for label in labels if label is not None)
    if len(found) < 2 and wanted is None:
        got = f"only {next(iter(found))!r}" if found else "no labels at all"
        raise DataError(
            f"Labels must name at least 2 classes, got {got} in {table.name}. Label "
            "at least 2 examples of each class."
        )
    if wanted is not None:
        unknown = [name for name in found if name not in wanted]
        if unknown:
            row = list(labels).index(unknown[0])
            raise DataError(
                f"Label must be one of {', '.join(map(repr, wanted))}, got "
                f"{unknown[0]!r} in {table.origins[row]}. Add it to the class names."
            )
        return tuple(wanted)
    if set(found) <= set(table.class_order):
        return tuple(name for name in table.class_order if name in found)
    return natural_order(found)


def target_kind_of(classes: int) -> TargetKind:
    """Return the kind of target that this number of classes makes."""
    return "binary" if classes == 2 else "multiclass"


def telling_columns(
    table: Table, labels: Sequence[str | None], used: set[str]
) -> tuple[Finding, ...]:
    """Return a note for each unused column that tells the label one to one."""
    known = [row for row, label in enumerate(labels) if label is not None]
    classes = len({labels[row] for row in known})
    found = []
    for name, cells in table.columns.items():
        if name in used or kind_of(cells) not in ("text", "number"):
            continue
        pairs = {(label_text(cells[row]), labels[row]) for row in known}
        if len(pairs) == classes == len({value for value, _ in pairs}):
            message = (
                f"Column {name!r} tells the label one to one in all "
                f"{counted(len(known), 'labelled row')}. It is not used as input."
            )
            found.append(
                Finding(kind="telling column", severity="note", message=message)
            )
    return tuple(found)
