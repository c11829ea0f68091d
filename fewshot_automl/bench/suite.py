"""A suite: task cards, the data they name, and the draws of shots from them."""

import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from fewshot_automl.cells import label_text
from fewshot_automl.data.sources import read_table
from fewshot_automl.errors import DataError, UserError
from fewshot_automl.tasks import Task

INPUT, LABEL = "input", "label"
"""Columns of the examples and of their labels in the files that entrants read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCard:
    """One task of a suite; the keys of its TOML file."""

    name: str
    """In results; past studies of this name advise nobody on it."""
    data: Path
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
    suite: str = ""
    """Name of the folder of the card."""

    def rows(self, part: str) -> pd.DataFrame:
        """Return the labelled rows of the `train` or the `test` part."""
        table = read_table(os.fspath(self.data), split=part)
        column = self.column or self.modality
        if missing := [n for n in (column, self.target) if n not in table.columns]:
            raise DataError(
                f"Data of task {self.name!r} must have a column {missing[0]!r}, got "
                f"{', '.join(table.columns)}. Mend its card."
            )
        labels = [label_text(cell) for cell in table.columns[self.target]]
        columns = {INPUT: list(table.columns[column]), LABEL: labels}
        frame = pd.DataFrame(columns, dtype=object).dropna()
        cells = frame[INPUT].map(str)
        if self.modality != "image":
            return frame.assign(**{INPUT: cells})
        home = (table.folder or Path()).absolute()
        return frame.assign(**{INPUT: cells.map(home.joinpath)}).sort_values(INPUT)


def load_suite(
    folder: Path | str, *, data: Path | None = None, tasks: Sequence[str] = ()
) -> list[TaskCard]:
    """Read the cards of a suite, or those of some tasks.

    Args:
        folder: Holds a TOML file a task.
        data: What the data of cards are relative to; if None, the folder.
        tasks: Names of the tasks to read; all if empty.

    Raises:
        UserError: If there is no card, or one is wrong.
    """
    folder = Path(folder)
    cards = [_read_card(path, data or folder) for path in sorted(folder.glob("*.toml"))]
    names = [card.name for card in cards]
    if not cards or not {*tasks} <= {*names} or len({*names}) < len(names):
        raise UserError(
            f"Suite must be a folder with one card (*.toml) for each task, got "
            f"{', '.join(names) or 'none'} in '{folder}'. See docs/benchmarks.md."
        )
    return [card for card in cards if not tasks or card.name in tasks]


def _read_card(path: Path, base: Path) -> TaskCard:
    try:
        values = tomllib.loads(path.read_text("utf-8"))
        values |= {"data": base / values["data"], "suite": path.absolute().parent.name}
        card = TaskCard(**values)
        Task(modality=card.modality, names=("a", "b"), metric=card.metric)
    except (KeyError, TypeError, ValueError) as error:
        known = ", ".join(field.name for field in fields(TaskCard))
        raise UserError(
            f"Task card must have keys of {known}, got {error} in '{path}'."
        ) from error
    return card


def draw(rows: pd.DataFrame, shots: int, seed: int) -> pd.DataFrame:
    """Return `shots` rows of each class, or all there are.

    >>> rows = pd.DataFrame({"input": [*"abcd"], "label": ["x", "y", "x", "x"]})
    >>> draw(rows, 2, seed=0)["label"].tolist()
    ['x', 'x', 'y']
    """
    mixed = rows.iloc[np.random.default_rng(seed).permutation(len(rows))]
    return mixed.groupby(LABEL).head(shots).sort_values(LABEL, kind="stable")


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
