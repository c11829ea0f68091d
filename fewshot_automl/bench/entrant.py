"""What takes part: commands that read files and write predictions.

The protocol, for all alike: the words of a command hold ``{train}`` (a CSV file with
the columns `input` and `label`; images are paths), ``{test}`` (the same without
`label`), ``{out}`` (a CSV file to write, a row a test example, with a column
`prediction` and, if there are any, `proba_CLASS` a class), ``{budget}`` (seconds) and
``{seed}``. A JSON file beside `out`, of the same name, may tell more (see `TOLD`).
"""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from fewshot_automl.errors import UserError, unknown_name

PLACES: Final = ("{train}", "{test}", "{out}", "{budget}")
OURS: Final = ("{python}", "-m", "fewshot_automl.bench.ours")
TOLD: Final[Mapping[str, type]] = {
    "expected": float,
    "low": float,
    "high": float,
    "fit_seconds": float,
    "predict_seconds": float,
    "latency_ms": float,
    "members": int,
    "winner": str,
    "version": str,
}
"""What an entrant may tell: the score it expects and its interval; its own seconds;
what one prediction costs; of how many models, which, and the version of the program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """One row of a comparison."""

    name: str
    """In results."""
    command: tuple[str, ...]
    """Words, with places such as ``{train}``."""
    modalities: tuple[str, ...] = ()
    """What it can learn; empty for all."""
    minds_budget: bool = True
    """Whether it depends on the budget; else one run counts for all budgets."""

    def words(self, places: Mapping[str, str]) -> list[str]:
        """Return its command with places filled in."""
        filled = list(self.command)
        for name, value in places.items():
            filled = [word.replace(f"{{{name}}}", value) for word in filled]
        return filled


def _ours(name: str, *options: str, **more: bool) -> Entrant:
    kind = name if name.startswith("probe") else "ours"
    words = (*OURS, kind, *PLACES, "{seed}", *options)
    return Entrant(name=name, command=words, **more)  # type: ignore[arg-type]


ENTRANTS: Final[dict[str, Entrant]] = {
    row.name: row
    for row in (
        _ours("ours"),
        _ours("ours-1", "--members", "1"),
        _ours("ours-cheap", "--methods", "probe,prototype"),
        _ours("ours-14", "--methods", "probe,prototype", "--trials", "14"),
        _ours("probe", minds_budget=False),
        _ours("probe-cv", minds_budget=False),
        _ours("probes-mean", minds_budget=False),
    )
}
"""The rows that come with fewshot."""


def entrant_named(words: str) -> Entrant:
    """Return a row by its name, or the one that NAME=COMMAND describes.

    Of a command that begins with the name of a row and a colon, the rest are further
    options of that row.

    >>> entrant_named("one-member=ours: --members 1").command[-2:]
    ('--members', '1')
    >>> entrant_named("mine=python my.py {train} {test} {out}").name
    'mine'
    """
    name, is_command, command = words.partition("=")
    if not is_command:
        if name not in ENTRANTS:
            raise unknown_name("entrant", name, ENTRANTS, "fewshot bench --help")
        return ENTRANTS[name]
    base, has_options, options = command.partition(":")
    if has_options and base in ENTRANTS:
        row = ENTRANTS[base]
        return replace(row, name=name, command=(*row.command, *shlex.split(options)))
    split = tuple(shlex.split(command))
    if missing := {"{train}", "{test}", "{out}"} - set(" ".join(split).split()):
        raise UserError(
            "Command of an entrant must hold {train}, {test} and {out}, got none of "
            f"{', '.join(sorted(missing))} in {command!r}. See docs/benchmarks.md."
        )
    return Entrant(name=name, command=split)


def read_told(path: Path) -> dict[str, float | int | str]:
    """Return what an entrant told beside its predictions; nothing if it told nothing.

    Raises:
        UserError: If what it told is not of the kind that `TOLD` says.
    """
    if not path.exists():
        return {}
    try:
        said = json.loads(path.read_text("utf-8"))
        return {n: kind(said[n]) for n, kind in TOLD.items() if said.get(n) is not None}
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path.name} must hold numbers and words, got {error}."
        ) from error
