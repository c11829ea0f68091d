"""A table of raw cells: the one shape that every source is read into."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fewshot_automl.cells import Column
from fewshot_automl.errors import DataError
from fewshot_automl.finding import Finding


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

    def column(self, name: str) -> Column:
        """Return one column with what is needed to speak of its cells."""
        return Column(
            name=name,
            cells=self.columns[name],
            origins=self.origins,
            source=self.name,
            order=self.class_order if name == self.target else (),
        )

    def with_labels(self, labels: Iterable[object]) -> "Table":
        """Return the table with labels that were given beside it.

        Raises:
            DataError: If there is not one label for each row.
        """
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


def from_records(
    name: str, records: Sequence[Mapping[str, object]], origins: tuple[str, ...]
) -> Table:
    """Return a table of rows that each name their own cells; absent ones are None.

    >>> from_records("list", [{"text": "a"}, {"y": 1}], ("1", "2")).columns
    {'text': ['a', None], 'y': [None, 1]}
    """
    names = dict.fromkeys(key for record in records for key in record)
    columns = {str(key): [record.get(key) for record in records] for key in names}
    return Table(name=name, columns=columns, origins=origins)
