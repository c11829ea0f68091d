"""What takes part: commands that read files and write predictions.

The protocol, for all alike: the words of a command hold ``{train}`` (a CSV file with
the columns `input` and `label`; images are paths), ``{test}`` (the same without
`label`), ``{out}`` (a CSV file to write, a row a test example, with a column
`prediction` and, if there are any, `proba_CLASS` a class), ``{budget}`` (seconds) and
``{seed}``. A JSON file beside `out`, of the same name, may tell more: `results.TOLD`.
"""

import shlex
from dataclasses import dataclass, replace
from typing import Final

from fewshot_automl.errors import UserError, unknown_name

PLACES: Final = ("{train}", "{test}", "{out}", "{budget}", "{seed}")


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


def _ours(name: str, *options: str) -> Entrant:
    words = ("{python}", "-m", "fewshot_automl.bench.ours", *PLACES, *options)
    return Entrant(name=name, command=words)


ENTRANTS: Final[dict[str, Entrant]] = {
    row.name: row
    for row in (
        _ours("ours"),
        _ours("ours-1", "--members", "1"),
        _ours("ours-cheap", "--methods", "probe,prototype"),
        _ours("ours-14", "--methods", "probe,prototype", "--trials", "14"),
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
    if not is_command and name not in ENTRANTS:
        raise unknown_name("entrant", name, ENTRANTS, "fewshot bench --help")
    base, has_options, options = command.partition(":")
    if not is_command or (has_options and base in ENTRANTS):
        row = ENTRANTS[base or name]
        return replace(row, name=name, command=(*row.command, *shlex.split(options)))
    split = tuple(shlex.split(command))
    if missing := {"{train}", "{test}", "{out}"} - set(split):
        raise UserError(
            "Command of an entrant must hold {train}, {test} and {out}, got none of "
            f"{', '.join(sorted(missing))} in {command!r}. See docs/benchmarks.md."
        )
    return Entrant(name=name, command=split)
