"""What one run of the command knows from its start, and where it writes."""

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

OLDEST_SECONDS = 60.0
"""A process that is older was not started for this command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Says when the command began and whether it may show tracebacks."""

    started: float = field(default_factory=time.monotonic)
    """`time.monotonic()` when the user pressed return, as nearly as can be known."""
    is_debug: bool = False
    """Whether errors keep their traceback and libraries their chatter."""


def process_start() -> float:
    """Return `time.monotonic()` as it was when this process was created.

    The budget of a fit counts from there: loading Python is part of the wait.
    """
    now = time.monotonic()
    import psutil

    try:
        age = time.time() - psutil.Process().create_time()
    except psutil.Error:
        return now
    return now - age if 0 <= age < OLDEST_SECONDS else now


def session() -> Session:
    """Return the session of the running command; a new one if there is none."""
    found = click.get_current_context().find_object(Session)
    return found or Session()


def say(line: str = "") -> None:
    """Print a line for people where the answer for programs goes to stdout."""
    click.echo(line, err=True)


def people(is_json: bool) -> "Console":
    """Return where tables for people go: stderr if stdout is for programs."""
    from rich.console import Console

    return Console(
        file=sys.stderr if is_json else sys.stdout, highlight=False, soft_wrap=False
    )


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
