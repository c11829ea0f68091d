"""Where a command writes, its tables, and large numbers in few words."""

import json
import sys
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text


def say(line: str = "") -> None:
    """Print a line for people where the answer for programs goes to stdout."""
    click.echo(line, err=True)


def people(is_json: bool) -> Console:
    """Return where tables for people go: stderr if stdout is for programs."""
    return Console(file=sys.stderr if is_json else sys.stdout, highlight=False)


def print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object as one line of stdout."""
    sys.stdout.flush()
    click.echo(json.dumps(plain(values), ensure_ascii=False))


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
        if value not in (None, "", [], {}, ()):
            made.add_row(name.replace("_", " "), Text(in_words(name, value)))
    return made


def in_words(name: str, value: Any) -> str:
    """Return a value of JSON as people read it; counts and bytes with a letter.

    >>> in_words("memory_bytes", 743_000_000), in_words("sizes", {"a": [1, 2]})
    ('743 MB', 'a 1 2')
    """
    if isinstance(value, Mapping):
        kept = {n: v for n, v in value.items() if v not in (None, "", [], ())}
        return ", ".join(
            f"{n.replace('_', ' ')} {in_words(n, v)}" for n, v in kept.items()
        )
    if isinstance(value, list | tuple):
        separator = "; " if any(isinstance(v, Mapping) for v in value) else " "
        return separator.join(in_words(name, item) for item in value)
    if isinstance(value, int) and value >= 10_000:
        return count(value, "B" if name.endswith("bytes") else "")
    return str(value)


def count(number: int | float, unit: str = "") -> str:
    """Return a large number with three digits and a letter for its thousands.

    >>> count(22_713_216), count(950), count(743_000_000, "B")
    ('22.7M', '950', '743 MB')
    """
    space = " " if unit else ""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{space}{letter}{unit}"
    return f"{number:.3g}{space}{unit}"
