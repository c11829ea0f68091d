"""Which column of a table is the input and which the target.

Every choice nobody made is returned with a sentence that says what was chosen and
why, and each can be overridden by name.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fewshot_automl.data.cells import (
    CellKind,
    is_missing,
    kind_of,
    label_text,
)
from fewshot_automl.data.table import Table
from fewshot_automl.errors import DataError, TaskError
from fewshot_automl.task import Modality

_TARGET_NAMES: Final = ("label", "labels", "target", "class", "category", "y")


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
    if not table.is_named:
        advice = "Pass strings, or image paths, bytes or pixels, all of one kind."
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
