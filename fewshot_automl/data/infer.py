"""Which column of a table is the input and which the target.

Every choice nobody made is returned with a sentence that says what was chosen and
why, and each can be overridden by name.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from fewshot_automl.cells import is_missing, label_text
from fewshot_automl.data.examples import Table
from fewshot_automl.errors import DataError, TaskError
from fewshot_automl.modalities import MODALITIES, modality_named

_TARGET_NAMES: Final = ("label", "labels", "target", "class", "category", "y")


class InputChoice(NamedTuple):
    """Says what the examples are, in which column, and what was inferred."""

    modality: str
    column: str
    notes: tuple[str, ...] = ()


def kind_of(cells: Sequence[object]) -> str:
    """Return what a column holds, judged by its first thousand filled cells.

    That is a name of `MODALITIES`, or ``number``, ``empty`` or ``other``.

    >>> kind_of(["7", "8.5", ""]), kind_of(["a.jpg", "b/c.PNG"]), kind_of(["so", "7"])
    ('number', 'image', 'text')
    """
    filled = [cell for cell in cells if not is_missing(cell)][:1000]
    if not filled:
        return "empty"
    for row in reversed(MODALITIES.values()):
        if row.holds(filled):
            return row.name
    if all(isinstance(cell, (str, int, float, np.number, np.bool_)) for cell in filled):
        return "number"
    return "other"


def choose_input(
    table: Table, wanted: Mapping[str, str], modality: str | None, target: str | None
) -> InputChoice:
    """Return the input column that was named, or the one that looks most like one.

    `wanted` holds the named column by what it holds; `target` cannot be the input.
    """
    if len(wanted) > 1:
        listed = ", ".join(f"{name} {column!r}" for name, column in wanted.items())
        raise TaskError(
            f"Input must be one column, got {listed}. Leave one out; several inputs "
            "at once are not supported yet."
        )
    for named, column in wanted.items():
        if modality not in (None, named):
            raise TaskError(
                f"Modality must be {named!r} for a {named} column, got {modality!r}."
            )
        modality_named(named)
        return InputChoice(named, require(table, column, named))
    kinds = {name: kind_of(c) for name, c in table.columns.items() if name != target}
    for row in reversed(MODALITIES.values()):
        fitting = [name for name, kind in kinds.items() if kind == row.name]
        if fitting and modality in (None, row.name):
            return _chosen(table, row.name, fitting, kinds)
    raise TaskError(_nothing_to_learn_from(table, kinds, modality))


def _chosen(
    table: Table, modality: str, fitting: list[str], kinds: Mapping[str, str]
) -> InputChoice:
    row = modality_named(modality)
    if not table.is_named:
        return InputChoice(modality, fitting[0], (f"Input: {row.plural}.",))
    column, *rest = sorted(
        fitting, key=lambda name: row.worth(name, table.columns[name]), reverse=True
    )
    note = f"Input: {row.plural} in column {column!r}"
    note += f" ({row.preference})" if rest else ""
    rest += [n for n, kind in kinds.items() if kind in MODALITIES and n not in fitting]
    if rest:
        note += f"; left out, the next best first: {', '.join(map(repr, rest))}"
        note += f" (choose with {' or '.join(f'--{name}' for name in MODALITIES)})"
    return InputChoice(modality, column, (f"{note}.",))


def _nothing_to_learn_from(
    table: Table, kinds: Mapping[str, str], modality: str | None
) -> str:
    listed = ", ".join(f"{name!r} ({kind})" for name, kind in kinds.items()) or "none"
    options = " or ".join(f"{name} (--{name})" for name in MODALITIES)
    advice = f"Name it with {options}."
    if not table.is_named:
        advice = "Pass strings, or image paths, bytes or pixels, all of one kind."
    if kinds and set(kinds.values()) <= {"number", "empty"}:
        advice = "Tables of numbers are not supported yet."
    wanted = modality_named(modality).plural if modality else None
    every = " or ".join(row.plural for row in MODALITIES.values())
    return (
        f"Data must have a column of {wanted or every}, got {listed} in {table.name}. "
        f"{advice}{table.said()}"
    )


def require(table: Table, column: str, role: str) -> str:
    """Return `column` if the table has it; the error lists the columns there are."""
    if column in table.columns:
        return column
    names = list(table.columns)
    near = difflib.get_close_matches(column.lower(), [n.lower() for n in names], n=1)
    closest = [f" Closest: {n!r}." for n in names if n.lower() in near][:1]
    listed = ", ".join(map(repr, names)) or "none"
    raise DataError(
        f"{role.capitalize()} must be a column of {table.name}, got {column!r}; it has "
        f"{listed}.{''.join(closest)} Is the first row a header?{table.said()}"
    )


def choose_target(table: Table, target: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the target column that was named or that the source declares, and notes.

    If there is none, the error guesses which column it could be.
    """
    if target is not None:
        return require(table, target, "target"), ()
    if table.target is not None:
        is_declared = table.is_named and table.class_order
        note = f"Target: column {table.target!r}, declared as labels."
        return table.target, (note,) if is_declared else ()
    if not table.is_named:
        raise DataError(
            f"Data must have labels, got none with {table.name}. Pass labels, one for "
            "each example, or put images or texts (.txt) in one folder for each class."
            f"{table.said()}"
        )
    raise DataError(
        "Target must be named for a table, got none. Choose one of "
        f"{', '.join(map(repr, table.columns))} with target (--target)"
        f"{_guess(table)}."
    )


def _guess(table: Table) -> str:
    distinct = {
        name: len({label_text(cell) for cell in cells} - {None})
        for name, cells in table.columns.items()
        if kind_of(cells) in ("text", "number")
    }
    fitting = [n for n, d in distinct.items() if 2 <= d <= max(2, len(table) // 2)]
    fitting.sort(key=lambda n: (n.lower() not in _TARGET_NAMES, distinct[n]))
    if not fitting:
        return ""
    return f"; {fitting[0]!r} looks like one ({distinct[fitting[0]]} distinct values)"
