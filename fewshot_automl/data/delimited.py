"""CSV and TSV: delimiters, quotes, quoted newlines, ragged rows, titles.

Rows are counted as a spreadsheet shows them: the header is row 1, and a cell with
line breaks inside quotes is one row. Cells stay text, exactly as written.
"""

import contextlib
import csv
import io
import itertools
import re
import sys
from collections.abc import Sequence
from typing import Final, Literal

from fewshot_automl.data.examples import Table, column_names
from fewshot_automl.errors import DataError
from fewshot_automl.finding import Finding, counted

_DELIMITERS: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_SAMPLE: Final = 200
"""Rows that are looked at to find the delimiter."""
_EXCEL_LINE: Final = re.compile(r'"?sep=(.)"?\r?(\n|$)', re.IGNORECASE)
"""The line by which Excel is told the delimiter; a spreadsheet does not show it."""


def read_delimited(text: str, name: str) -> Table:
    """Return the table in a CSV or TSV text; origins name the file."""
    told = _EXCEL_LINE.match(text)
    text = text[told.end() :] if told else text
    delimiter = told[1] if told else _delimiter(text)
    records, notes = _records(text, delimiter, name)
    if delimiter != ",":
        notes = (f"Delimiter: {_DELIMITERS.get(delimiter, repr(delimiter))}.", *notes)
    return read_records(records, name, notes)


def read_records(records: list[list[str]], name: str, notes: tuple[str, ...]) -> Table:
    """Return the table in rows of cells, whose header may stand below a title."""
    if not any(map(any, records)):
        raise DataError(f"Table must have a header and rows, got nothing in {name}.")
    start = header_row(records)
    above = " ".join(filter(None, itertools.chain(*records[:start])))
    said = f"The header is row {start + 1}. Left out above it: {above!r}."
    titles = [Finding(kind="title", severity="note", message=said)] if above else []
    cells = [cell.strip() or f"column {i}" for i, cell in enumerate(records[start], 1)]
    header = column_names(cells, name)
    # In a table of one column a blank line is a row with an empty cell.
    is_row = [bool(record) or len(header) == 1 for record in records]
    rows = [(i + 1, r) for i, r in enumerate(records) if i > start and is_row[i]]
    if not rows:
        raise DataError(
            f"Table must have rows below its header, got only the header in {name}."
        )
    short = []
    for number, row in rows:
        if any(row[len(header) :]):
            raise DataError(
                f"Row must have {counted(len(header), 'cell')} as the header has, got "
                f"{len(row)} in {name}:{number}. Put quotes around a cell with the "
                "delimiter in it. Remove what stands above the header, if anything."
            )
        if len(row) < len(header):
            short.append(f"{name}:{number}")
            row.extend([""] * (len(header) - len(row)))
    message = f"{counted(len(short), 'row')} shorter than the header; filled empty."
    return Table(
        name=name,
        columns={key: [row[i] for _, row in rows] for i, key in enumerate(header)},
        origins=tuple(f"{name}:{number}" for number, _ in rows),
        notes=notes,
        findings=(*titles, *Finding.any_at("short row", "warning", message, short)),
    )


def header_row(records: Sequence[Sequence[str]]) -> int:
    """Return where the header stands: on top, or below a title and comments.

    Those have fewer cells than most rows of the table below.

    >>> header_row([["Export"], [], ["text", "y"], ["a", "p"], ["b", "n"]])
    2
    """
    on_top = next((i for i, record in enumerate(records) if record), 0)
    ends = [max((i for i, c in enumerate(r) if c.strip()), default=-1) for r in records]
    start = ends.index(max(ends)) if max(ends) > 0 else on_top
    header = records[start][: ends[start] + 1]
    is_table = (
        all(cell.strip() and not cell[0].isspace() for cell in header)  # prose has ", "
        and len(set(header)) == len(header)
        and ends.count(ends[start]) > max(sum(map(bool, records)) / 2, start - on_top)
    )
    return start if is_table else on_top


def _delimiter(text: str) -> str:
    sample = text[: 1 << 16]
    best, best_fit = ",", (False, 0.0)
    for delimiter in _DELIMITERS:
        lines = io.StringIO(sample, newline="")
        rows = [row for row in csv.reader(lines, delimiter=delimiter) if row][:_SAMPLE]
        start = header_row(rows or [[]])
        width = len(rows[start]) if rows else 0
        agreement = sum(len(row) == width for row in rows) / max(len(rows), 1)
        fit = (start == 0, agreement)  # a header on top is the likelier
        if width > 1 and fit > best_fit:
            best, best_fit = delimiter, fit
    return best


def _records(
    text: str, delimiter: str, name: str
) -> tuple[list[list[str]], tuple[str, ...]]:
    fault: DataError | None = None
    records: list[list[str]] = []
    try:
        records = _parse(text, delimiter, csv.QUOTE_MINIMAL, name)
    except DataError as error:
        fault = error
    if fault and '\\"' in text:  # as databases write quotes within a cell
        with contextlib.suppress(DataError):
            doubled = _parse(re.sub(r'(?<!\\)\\"', '""', text), delimiter, 0, name)
            return doubled, ('Quotes: \\" is read as a quote within a cell.',)
    # A TSV seldom quotes: a cell that merely begins with a quote would swallow rows.
    is_tsv = delimiter == "\t"
    if fault or (is_tsv and any("\n" in cell for row in records for cell in row)):
        plain = _parse(text, delimiter, csv.QUOTE_NONE, name)
        widths = {len(record) for record in plain if record}
        if len(widths) == 1 and widths != {1}:
            note = "Quotes: read as ordinary characters, since they do not pair up."
            return plain, (note,)
    if fault:
        raise fault
    return records, ()


def _parse(
    text: str, delimiter: str, quoting: Literal[0, 3], name: str
) -> list[list[str]]:
    first = text.partition("\n")[0].rstrip("\r").split(delimiter)
    is_spaced = len(first) > 1 and all(cell.startswith(" ") for cell in first[1:])
    limit = csv.field_size_limit(sys.maxsize)  # else a cell of 128 KiB is an error
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quoting=quoting,
        skipinitialspace=is_spaced,
        strict=True,
    )
    records, line = [], 1
    try:
        for record in reader:
            records.append(record)
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            "Quotes must come in pairs around a cell, got "
            f"{error} in the row that begins at {name}:{line}. Write a quote inside a "
            'quoted cell twice ("").'
        ) from error
    else:
        return records
    finally:
        csv.field_size_limit(limit)
