"""A suite: task cards, the data they name, and the draws of shots from them."""

import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from fewshot_automl.cells import label_text
from fewshot_automl.data.sources import read_table
from fewshot_automl.errors import DataError, UserError
from fewshot_automl.tasks import Task

DATA: Final = "FEWSHOT_BENCH_DATA"
"""Environment variable: the folder that the data of cards are relative to."""
INPUT, LABEL = "input", "label"
"""Columns of the examples and of their labels in the files that entrants read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCard:
    """One task of a suite; the keys of its TOML file."""

    name: str
    """In results; past studies of this name advise nobody on it."""
    data: str
    """Folder with `train` and `test`, each a table or a folder of class folders."""
    modality: str
    """What an example is: text, image."""
    license: str
    """Of the data."""
    target: str = "label"
    """Column of the labels."""
    column: str = ""
    """Column of the examples; the modality's name if empty."""
    metric: str = "accuracy"
    """What entrants are compared by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Task cards whose data are at hand."""

    name: str
    """Of its folder."""
    tasks: tuple[TaskCard, ...]
    """In the order of their files."""
    folders: dict[str, Path]
    """The data of each task."""
    missing: dict[str, str]
    """Tasks whose data are not there, and where they should be."""

    def rows(self, task: TaskCard, part: str) -> pd.DataFrame:
        """Return the labelled rows of the `train` or the `test` part of a task."""
        table = read_table(os.fspath(self.folders[task.name]), split=part)
        column = task.column or task.modality
        for name in (column, task.target):
            if name not in table.columns:
                raise DataError(
                    f"Data of task {task.name!r} must have a column {name!r}, got "
                    f"{', '.join(table.columns)}. Mend its card."
                )
        labels = [label_text(cell) for cell in table.columns[task.target]]
        cells: list[object] = [str(cell) for cell in table.columns[column]]
        if task.modality == "image":
            home = table.folder or Path()
            cells = [(home / str(cell)).absolute() for cell in cells]
        frame = pd.DataFrame({INPUT: cells, LABEL: labels}, dtype=object).dropna()
        return frame.sort_values(INPUT) if task.modality == "image" else frame


def draw(rows: pd.DataFrame, shots: int, seed: int) -> pd.DataFrame:
    """Return `shots` rows of each class, or all there are.

    >>> rows = pd.DataFrame({"input": [*"abcd"], "label": ["x", "y", "x", "x"]})
    >>> draw(rows, 2, seed=0)["label"].tolist()
    ['x', 'x', 'y']
    """
    mixed = rows.iloc[np.random.default_rng(seed).permutation(len(rows))]
    return mixed.groupby(LABEL).head(shots).sort_values(LABEL, kind="stable")


def load_suite(
    folder: Path | str, *, data: Path | None = None, tasks: Sequence[str] = ()
) -> Suite:
    """Read the cards of a suite, or those of some tasks.

    Args:
        folder: Holds a TOML file a task.
        data: What the data of cards are relative to; if None, the folder that
            `FEWSHOT_BENCH_DATA` names, or that of the cards.
        tasks: Names of the tasks to read; all if empty.

    Raises:
        UserError: If there is no card, or one is wrong.
    """
    folder = Path(folder)
    base = Path(data or os.environ.get(DATA) or folder)
    cards = {c.name: c for c in map(_read_card, sorted(folder.glob("*.toml")))}
    if not cards or not {*tasks} <= {*cards}:
        raise UserError(
            f"Suite must be a folder with a card (*.toml) for each task, got "
            f"{', '.join(cards) or 'none'} in '{folder}'. See docs/benchmarks.md."
        )
    wanted = [card for card in cards.values() if not tasks or card.name in tasks]
    folders = {card.name: base / card.data for card in wanted}
    gone = {name: f"no data at {at}" for name, at in folders.items() if not at.is_dir()}
    return Suite(
        name=folder.resolve().name,
        tasks=tuple(card for card in wanted if card.name not in gone),
        folders=folders,
        missing=gone,
    )


def _read_card(path: Path) -> TaskCard:
    try:
        card = TaskCard(**tomllib.loads(path.read_text("utf-8")))
        Task(modality=card.modality, names=("a", "b"), metric=card.metric)
    except (TypeError, ValueError) as error:
        known = ", ".join(field.name for field in fields(TaskCard))
        raise UserError(
            f"Task card must have keys of {known}, got {error} in '{path}'."
        ) from error
    return card


def write_rows(rows: pd.DataFrame, path: Path) -> None:
    """Write rows as entrants read them: a CSV file, images under plain names."""
    cells = []
    for number, cell in enumerate(rows[INPUT]):
        if isinstance(cell, Path):  # its name would tell the class
            link = path.parent / "images" / f"{path.stem}-{number:05}{cell.suffix}"
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(cell)
            cell = link
        cells.append(cell)
    rows.assign(**{INPUT: cells}).to_csv(path, index=False)
