"""A suite: task cards, the data they name, and the draws of shots from them."""

import json
import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np

from fewshot_automl.cells import label_text
from fewshot_automl.data.sources import read_table
from fewshot_automl.errors import DataError, UserError
from fewshot_automl.tasks import Task

DATA: Final = "FEWSHOT_BENCH_DATA"
"""Environment variable: the folder that the data of cards are relative to."""
INPUT: Final = "input"
"""Column of the examples in the files that entrants read."""
LABEL: Final = "label"
"""Column of their labels."""


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
class Rows:
    """Examples and their labels, in one order."""

    inputs: Sequence[str | Path]
    """Texts, or files of images."""
    labels: Sequence[str]
    """What is to be predicted of each."""

    def take(self, chosen: Sequence[int]) -> "Rows":
        """Return some of the examples."""
        inputs, labels = self.inputs, self.labels
        return Rows(
            inputs=[inputs[i] for i in chosen], labels=[labels[i] for i in chosen]
        )

    def draw(self, shots: int, seed: int) -> "Rows":
        """Return `shots` examples of each class, or all there are.

        >>> rows = Rows(inputs=["a", "b", "c", "d"], labels=["x", "y", "x", "x"])
        >>> rows.draw(2, seed=0).labels
        ['x', 'x', 'y']
        """
        taken: dict[str, list[int]] = {name: [] for name in sorted(set(self.labels))}
        for index in np.random.default_rng(seed).permutation(len(self.labels)):
            members = taken[self.labels[index]]
            if len(members) < shots:
                members.append(int(index))
        return self.take([index for members in taken.values() for index in members])


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

    def rows(self, task: TaskCard, part: str) -> Rows:
        """Return the `train` or the `test` part of a task."""
        table = read_table(os.fspath(self.folders[task.name]), split=part)
        column = task.column or task.modality
        for name in (column, task.target):
            if name not in table.columns:
                raise DataError(
                    f"Data of task {task.name!r} must have a column {name!r}, got "
                    f"{', '.join(table.columns)}. Mend its card."
                )
        cells, labels = table.columns[column], table.columns[task.target]
        names = [(x, label_text(y)) for x, y in zip(cells, labels, strict=True)]
        known: list[tuple[str, str]] = [(str(x), y) for x, y in names if y is not None]
        if task.modality != "image":
            return Rows(inputs=[x for x, _ in known], labels=[y for _, y in known])
        home = table.folder or Path()
        files = sorted(((home / x).absolute(), y) for x, y in known)
        return Rows(inputs=[x for x, _ in files], labels=[y for _, y in files])


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
    cards = [_read_card(path) for path in sorted(folder.glob("*.toml"))]
    names = [card.name for card in cards]
    if not cards or len(set(names)) < len(names):
        raise UserError(
            f"Suite must be a folder of task cards (*.toml) of distinct names, got "
            f"{', '.join(names) or 'none'} in '{folder}'. See docs/benchmarks.md."
        )
    if unknown := set(tasks) - set(names):
        raise UserError(
            f"tasks must be of {', '.join(names)}, got {', '.join(sorted(unknown))}."
        )
    wanted = [card for card in cards if not tasks or card.name in tasks]
    folders = {card.name: base / card.data for card in wanted}
    gone = {name: f"no data at {at}" for name, at in folders.items() if not at.is_dir()}
    return Suite(
        name=folder.resolve().name,
        tasks=tuple(card for card in wanted if card.name not in gone),
        folders=folders,
        missing=gone,
    )


def _read_card(path: Path) -> TaskCard:
    known = [field.name for field in fields(TaskCard)]
    try:
        card = TaskCard(**tomllib.loads(path.read_text("utf-8")))
        Task(modality=card.modality, names=("a", "b"), metric=card.metric)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"Task card must have the keys {', '.join(known)}, got {error} in '{path}'."
        ) from error
    return card


def write_inputs(rows: Rows, path: Path, *, with_labels: bool) -> None:
    """Write examples as entrants read them: a CSV file, images under plain names."""
    import pandas as pd

    cells: list[str] = []
    for number, cell in enumerate(rows.inputs):
        if isinstance(cell, Path):  # its name would tell the class
            link = path.parent / "images" / f"{path.stem}-{number:05}{cell.suffix}"
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(cell)
            cells.append(str(link))
        else:
            cells.append(cell)
    columns = {INPUT: cells, **({LABEL: rows.labels} if with_labels else {})}
    pd.DataFrame(columns).to_csv(path, index=False)


def write_task(task: TaskCard, folder: Path, budget_seconds: float, seed: int) -> None:
    """Write what an entrant may want to know besides the examples."""
    facts = {
        "task": task.name,
        "modality": task.modality,
        "metric": task.metric,
        "budget_seconds": budget_seconds,
        "seed": seed,
    }
    (folder / "task.json").write_text(json.dumps(facts), "utf-8")
