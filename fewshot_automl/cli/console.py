"""Where a command writes, and its tables."""

import json
import sys
from collections.abc import Mapping
from typing import Any, Final

import click
from rich import filesize
from rich.console import Console
from rich.table import Table
from rich.text import Text

EMPTY: Final[tuple[Any, ...]] = (None, "", [], {}, ())
"""Values that are not shown."""


def say(line: str = "") -> None:
    """Print a line for people where the answer for programs goes to stdout."""
    click.echo(line, err=True)


def people(is_json: bool) -> Console:
    """Return where tables for people go: stderr if stdout is for programs."""
    return Console(file=sys.stderr if is_json else sys.stdout, highlight=False)


def print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object as one line of stdout."""
    sys.stdout.flush()
    click.echo(json.dumps(plain(values)))  # in ASCII, whatever stdout can hold


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: no NaN, no infinity.

    >>> plain({"score": float("nan"), "names": ("a",)})
    {'score': None, 'names': ['a']}
    """
    if isinstance(value, float) and not -1e308 <= value <= 1e308:
        return None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def table(*heads: str, right: tuple[str, ...] = ()) -> Table:
    """Return an empty table with these heads; those in `right` are numbers."""
    made = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for head in heads:
        made.add_column(
            head, justify="right" if head in right else "left", overflow="fold"
        )
    return made


def facts(values: Mapping[str, Any]) -> Table:
    """Return names and values in two columns; what is empty is left out."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in values.items():
        if value not in EMPTY:
            made.add_row(name.replace("_", " "), Text(in_words(name, value)))
    return made


def in_words(name: str, value: Any) -> str:
    """Return a value of JSON as people read it.

    >>> in_words("memory_bytes", 743_000_000), in_words("sizes", {"a": [1, 2_000]})
    ('743.0 MB', 'a 1 2,000')
    """
    if isinstance(value, Mapping):
        kept = {n: in_words(n, v) for n, v in value.items() if v not in EMPTY}
        return ", ".join(f"{n.replace('_', ' ')} {words}" for n, words in kept.items())
    if isinstance(value, list | tuple):
        return " ".join(in_words(name, item) for item in value)
    if isinstance(value, bool) or not isinstance(value, int):
        return str(value)
    return filesize.decimal(value) if name.endswith("bytes") else f"{value:,}"
