"""What takes part: commands that read files and write predictions.

The protocol, for all alike: the words of a command hold ``{train}`` (a CSV file with
the columns `input` and `label`; images are paths), ``{test}`` (the same without
`label`), ``{out}`` (a CSV file to write, a row a test example, with a column
`prediction` and, if there are any, `proba_CLASS` a class), ``{budget}`` (seconds) and
``{seed}``. A JSON file beside `out`, of the same name, may tell more: `results.TOLD`.
"""

import shlex
from dataclasses import dataclass
from typing import Final

from fewshot_automl.errors import UserError, unknown_name

PLACES: Final = ("{train}", "{test}", "{out}", "{budget}", "{seed}")
OURS: Final = {
    "ours": "",
    "ours-1": "--members 1",
    "ours-cheap": "--methods probe,prototype",
    "ours-14": "--methods probe,prototype --trials 14",
}
"""The rows that come with fewshot, and their options of `fewshot fit`."""


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
    base, is_row, options = (command if is_command else f"{name}:").partition(":")
    if is_row and base in OURS:
        options = f"{OURS[base]} {options}"
        ours = ("{python}", "-m", "fewshot_automl.bench.ours", *PLACES)
        return Entrant(name=name, command=(*ours, *shlex.split(options)))
    if not is_command:
        raise unknown_name("entrant", name, OURS, "fewshot bench --help")
    if missing := [place for place in PLACES[:3] if place not in command]:
        raise UserError(
            "Command of an entrant must hold {train}, {test} and {out}, got none of "
            f"{', '.join(missing)} in {command!r}. See docs/benchmarks.md."
        )
    return Entrant(name=name, command=tuple(shlex.split(command)))
