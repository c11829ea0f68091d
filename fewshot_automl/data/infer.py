"""What a table means: which column is the input, which the target, which classes.

Every choice nobody made is returned with a sentence that says what was chosen and
why, and each can be overridden by name.
"""

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from fewshot_automl.data.cells import (
    CellKind,
    is_missing,
    kind_of,
    label_text,
    natural_order,
    number,
)
from fewshot_automl.data.findings import Finding, counted
from fewshot_automl.data.table import Table
from fewshot_automl.errors import DataError, TaskError
from fewshot_automl.task import Modality, TargetKind

_TARGET_NAMES: Final = ("label", "labels", "target", "class", "category", "y")
_REGRESSION_VALUES: Final = 10
"""More distinct decimals than this measure something; they do not name classes."""
_REGRESSION_CODES: Final = 20
"""More distinct whole numbers than this, each rare, measure something too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputChoice:
    """Says in which column the examples stand and what they are."""

    modality: Modality
    """What one cell is."""
    column: str
    """The column's name."""
    notes: tuple[str, ...] = ()
    """What was inferred, in sentences."""


def choose_input(
    table: Table,
    *,
    text: str | None,
    image: str | None,
    modality: Modality | None,
    target: str | None,
) -> InputChoice:
    """Return the input column that was named, or the one that looks most like one.

    Raises:
        DataError: If a named column is not in the table.
        TaskError: If no column can be the input, or the wishes exclude each other.
    """
    if text is not None and image is not None:
        raise TaskError(
            f"Input must be one column, got text {text!r} and image {image!r}. "
            "Leave one out; several inputs at once are not supported yet."
        )
    named: Modality = "text" if text is not None else "image"
    wanted = text if text is not None else image
    if wanted is not None:
        if modality not in (None, named):
            raise TaskError(
                f"Modality must be {named!r} for a {named} column, got {modality!r}."
            )
        return InputChoice(modality=named, column=require(table, wanted, named))
    kinds = {name: kind_of(c) for name, c in table.columns.items() if name != target}
    images = [name for name, kind in kinds.items() if kind == "image"]
    texts = [name for name, kind in kinds.items() if kind == "text"]
    if images and modality != "text":
        return _choose_image(table, images, texts)
    if texts and modality != "image":
        return _choose_text(table, texts)
    raise TaskError(_nothing_to_learn_from(table, kinds, modality))


def _choose_image(table: Table, images: list[str], texts: list[str]) -> InputChoice:
    column = images[0]
    note = "Input: images."
    if table.is_named:
        note = f"Input: images in column {column!r}{_left_out(images[1:] + texts)}."
    return InputChoice(modality="image", column=column, notes=(note,))


def _choose_text(table: Table, texts: list[str]) -> InputChoice:
    lengths = {
        name: sum(len(str(c)) for c in table.columns[name] if not is_missing(c))
        for name in texts
    }
    column = max(texts, key=lambda name: lengths[name])
    note = "Input: texts."
    if table.is_named:
        why = " (the column with the longest texts)" if len(texts) > 1 else ""
        others = [name for name in texts if name != column]
        note = f"Input: text in column {column!r}{why}{_left_out(others)}."
    return InputChoice(modality="text", column=column, notes=(note,))


def _left_out(names: Sequence[str]) -> str:
    listed = ", ".join(map(repr, names))
    return f"; left out: {listed} (choose with text or image)" if names else ""


def _nothing_to_learn_from(
    table: Table, kinds: dict[str, CellKind], modality: Modality | None
) -> str:
    listed = ", ".join(f"{name!r} ({kind})" for name, kind in kinds.items()) or "none"
    advice = "Name it with text (--text) or image (--image)."
    if kinds and set(kinds.values()) <= {"number", "empty"}:
        advice = "Tables of numbers are not supported yet."
    return (
        f"Data must have a column of {modality or 'text or image'}s, got {listed} "
        f"in {table.name}. {advice}"
    )


def require(table: Table, column: str, role: str) -> str:
    """Return `column` if the table has it.

    Raises:
        DataError: If not; with the columns there are.
    """
    if column in table.columns:
        return column
    names = list(table.columns)
    near = difflib.get_close_matches(column.lower(), [n.lower() for n in names], n=1)
    closest = [f" Closest: {n!r}." for n in names if n.lower() in near][:1]
    listed = ", ".join(map(repr, names))
    raise DataError(
        f"{role.capitalize()} must be a column of {table.name}, got {column!r}; it has "
        f"{listed}.{''.join(closest)} Is the first row a header?"
    )


def choose_target(table: Table, target: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the target column that was named or that the source declares.

    Raises:
        DataError: If there is none; with a guess which column it could be.
    """
    if target is not None:
        return require(table, target, "target"), ()
    if table.target is not None:
        if not table.is_named or not table.class_order:
            return table.target, ()
        return table.target, (f"Target: column {table.target!r}, declared as labels.",)
    if not table.is_named:
        raise DataError(
            f"Data must have labels, got none with {table.name}. Pass labels, one for "
            "each example, or put images in one folder for each class."
        )
    raise DataError(
        "Target must be named for a table, got none. Choose one of "
        f"{', '.join(map(repr, table.columns))} with target (--target)"
        f"{_guess(table)}."
    )


def _guess(table: Table) -> str:
    kinds = {name: kind_of(cells) for name, cells in table.columns.items()}
    distinct = {
        name: len({label_text(c) for c in table.columns[name]} - {None})
        for name, kind in kinds.items()
        if kind in ("text", "number")
    }
    fitting = [n for n, d in distinct.items() if 2 <= d <= max(2, len(table) // 2)]
    fitting.sort(key=lambda n: (n.lower() not in _TARGET_NAMES, distinct[n]))
    if not fitting:
        return ""
    return f"; {fitting[0]!r} looks like one ({distinct[fitting[0]]} distinct values)"


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
