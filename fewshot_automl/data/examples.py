"""What reading hands on: a table of raw cells, then examples and their task."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from fewshot_automl.cells import Column, label_text, said, tidied
from fewshot_automl.errors import DataError
from fewshot_automl.finding import Finding, counted
from fewshot_automl.modalities import Input
from fewshot_automl.tasks import Task


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """Holds columns of equal length and says where each row came from."""

    name: str
    """What people call it: a file name, ``DataFrame``, ``list``."""
    columns: Mapping[str, Sequence[object]]
    """Cells as the source had them, by column name."""
    origins: tuple[str, ...]
    """File and row, or path, of each row."""
    folder: Path | None = None
    """What image paths in the cells are relative to; None for the working folder."""
    is_named: bool = True
    """Whether the column names are the user's; ours for lists and class folders."""
    target: str | None = None
    """The column that the source itself declares to be the target."""
    class_order: tuple[str, ...] = ()
    """Class names in the order the source declares; empty if it declares none."""
    notes: tuple[str, ...] = ()
    """Sentences on what was inferred while reading."""
    findings: tuple[Finding, ...] = ()
    """What reading noticed."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.origins)

    def said(self) -> str:
        """Return what was inferred and left out on reading, as the end of an error."""
        found = (f"{each.message}{each.places()}" for each in self.findings)
        return " ".join(["", *self.notes, *found])

    def column(self, name: str) -> Column:
        """Return one column with what is needed to speak of its cells."""
        return Column(
            name=name,
            cells=self.columns[name],
            origins=self.origins,
            source=self.name,
            order=self.class_order if name == self.target else (),
        )

    def with_labels(self, labels: Iterable[object] | None) -> "Table":
        """Return the table with labels that were given beside it, if any were."""
        if labels is None:
            return self
        if isinstance(labels, (str, bytes, Mapping, set, frozenset)):
            raise DataError(
                "Labels must be a list, an array or a Series in the order of the "
                f"examples, got {type(labels).__name__}. Pass list(...) of them."
            )
        cells = list(labels)
        if len(cells) != len(self):
            raise DataError(
                f"Labels must be as many as the examples ({len(self)}), got "
                f"{len(cells)}. Use None where an example has no label."
            )
        name = "labels"
        while name in self.columns:
            name = f"{name}_"
        columns = {**self.columns, name: cells}
        return replace(self, columns=columns, target=name, class_order=())

    def tidied(self, target: str, known: Sequence[str] = ()) -> "Table":
        """Return the table with spellings of one label joined; a note says which."""
        names = [label_text(cell) for cell in self.columns[target]]
        counts = Counter(name for name in names if name is not None)
        new = {a: b for a, b in tidied(counts, known).items() if a != b}
        if not new:
            return self
        told = [
            f"{said(a)} ({counts[a]:,}) as {repr(b) if b else 'no label'}"
            for a, b in new.items()
        ]
        pairs = zip(self.columns[target], names, strict=True)
        cells = [new.get(name or "", cell) for cell, name in pairs]
        columns = {**self.columns, target: cells}
        notes = (*self.notes, f"Labels read: {', '.join(told)}.")
        return replace(self, columns=columns, notes=notes)


def from_records(
    name: str, records: Sequence[Mapping[Any, object]], origins: tuple[str, ...]
) -> Table:
    """Return a table of rows that each name their own cells; absent ones are None."""
    keys = dict.fromkeys(key for record in records for key in record)
    columns = [[record.get(key) for record in records] for key in keys]
    named = dict(zip(column_names(keys, name), columns, strict=True))
    return Table(name=name, columns=named, origins=origins)


def column_names(keys: Iterable[object], table: str) -> list[str]:
    """Return keys as names of columns; of two that read alike one would vanish."""
    names = [str(key) for key in keys]
    if twice := [repr(name) for name, n in Counter(names).items() if n > 1]:
        raise DataError(
            f"Column names must be distinct, got {', '.join(twice)} more than once in "
            f"{table}. Rename one (is the first row a header?)."
        )
    return names


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Examples:
    """Holds inputs, their targets and where each came from, in one order.

    >>> few = Examples(
    ...     inputs=("good", "bad", "so so"),
    ...     targets=np.array([1, 0, -1]),
    ...     origins=("a.csv:2", "a.csv:3", "a.csv:4"),
    ... )
    >>> task = Task(modality="text", names=("-", "+"))
    >>> len(few), few.labelled(task).origins, few.take([1]).inputs
    (3, ('a.csv:2', 'a.csv:3'), ('bad',))
    """

    inputs: tuple[Input, ...]
    """Texts, image files, encoded images or pixels; see `modalities.Input`."""
    targets: np.ndarray
    """What is to be predicted, one row an example; `Task` knows its form, and where
    nobody has labelled an example."""
    origins: tuple[str, ...]
    """File and row, or path, of each example, for messages to people."""

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.inputs)

    def take(self, indices: Sequence[int] | Int[np.ndarray, " chosen"]) -> "Examples":
        """Return the examples at these positions, in this order."""
        chosen = np.asarray(indices, dtype=np.int64)
        return Examples(
            inputs=tuple(self.inputs[i] for i in chosen),
            targets=self.targets[chosen],
            origins=tuple(self.origins[i] for i in chosen),
        )

    def unreadable(self, faults: Mapping[int, str]) -> list[Finding]:
        """Return a warning that names the examples in these rows, and their faults."""
        places = [f"{self.origins[row]}: {fault}" for row, fault in faults.items()]
        message = f"{counted(len(places), 'example')} that cannot be read."
        return Finding.any_at("unreadable example", "warning", message, places)

    def labelled(self, task: Task) -> "Examples":
        """Return the examples that somebody has labelled."""
        return self.take(np.flatnonzero(task.rules.is_labelled(self.targets)))

    def unlabelled(self, task: Task) -> "Examples":
        """Return the examples that nobody has labelled."""
        return self.take(np.flatnonzero(~task.rules.is_labelled(self.targets)))

    def and_more(self, others: "Examples") -> "Examples":
        """Return these examples, then others."""
        return Examples(
            inputs=self.inputs + others.inputs,
            targets=np.concatenate([self.targets, others.targets]),
            origins=self.origins + others.origins,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Names the columns that were read, so that a model finds them again.

    A name is None where the source had no named columns (lists, class folders).
    """

    input: str | None = None
    """The column the texts, or the images or paths to them, stand in."""
    target: str | None = None
    """The column the labels stand in."""
    is_tidied: bool = False
    """Whether spellings of one class are read as one."""

    def to_json(self) -> dict[str, str | bool | None]:
        """Return the fields as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Columns":
        """Return the columns that `to_json` wrote, also that of version 0.1."""
        old = values.get("text") or values.get("image")
        tidy = values.get("is_tidied", False)
        read = values.get("input", old)
        return cls(input=read, target=values["target"], is_tidied=tidy)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """Joins examples with the task they set and how both were understood."""

    examples: Examples
    """All rows, the unlabelled ones too, in the order of the source."""
    task: Task
    """What is to be learnt."""
    columns: Columns
    """Where in the source the examples stood."""
    inferred: tuple[str, ...] = ()
    """One sentence for each thing that nobody said and that was inferred."""
    findings: tuple[Finding, ...] = ()
    """What reading noticed; `audit` reports it with its own findings."""
