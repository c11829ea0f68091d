"""The command ``retarget``: another goal for a finished study."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from fewshot_automl.automl.finished import Versions
from fewshot_automl.automl.record import read_summary, settings_of
from fewshot_automl.automl.result import Result
from fewshot_automl.automl.retarget import Change, free_beside, in_words
from fewshot_automl.automl.retarget import retarget as run_retarget
from fewshot_automl.automl.settings import LIMITS
from fewshot_automl.cli.console import people, table
from fewshot_automl.cli.entry import started
from fewshot_automl.cli.fit import answered, shown
from fewshot_automl.cli.options import (
    FOLDER,
    data_option,
    json_option,
    seconds,
    setting_options,
)
from fewshot_automl.errors import UserError
from fewshot_automl.report.words import number


@click.command("retarget")
@click.argument("folder", type=FOLDER)
@setting_options("goal")
@click.option(
    "--search",
    metavar="TIME",
    callback=seconds,
    help="Search on for the new goal first: 90s, 5min. Default: choose from what was "
    "tried.",
)
@data_option
@click.option("--test", metavar="DATA", help="The same test data, if they have moved.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder for the new study. Default: FOLDER-retargeted.",
)
@json_option
def retarget(
    folder: Path,
    search: float | None,
    data: str | None,
    test: str | None,
    out: Path | None,
    is_json: bool,
    **goal: Any,
) -> int:
    """Choose a model for another goal from all that a fit has tried.

    No trial is trained again: all are scored by the new goal on their stored
    cross-validated predictions. FOLDER is the --out folder of a fit; it stays as it is.

    \b
    Examples:
      fewshot retarget runs/mail --cost "ham->spam:5"
      fewshot retarget runs/mail --max-latency-ms 20
      fewshot retarget runs/mail --metric macro_f1 --coverage 0.9
      fewshot retarget runs/mail --max-parameters 10M --search 5min
    """
    limits = {name: goal.pop(name) for name in LIMITS}
    goal["limits"] = {name: end for name, end in limits.items() if end is not None}
    wanted = {name: value for name, value in goal.items() if value not in (None, {})}
    if not wanted:
        raise UserError(
            "retarget must be told a goal, got none. See: fewshot retarget --help"
        )
    changes: list[Change] = []
    place = free_beside(folder) if out is None else out

    def work(**more: Any) -> Result:
        result, found = run_retarget(
            folder, out=place, search=search, data=data, test=test, **wanted, **more
        )
        changes.extend(found)
        return result

    console = people(is_json)
    result = shown(
        partial(work, started=started()),
        settings_of(folder),
        place,
        console,
        started(),
        has_bar=False,
        broken="{place} is not finished. Delete it and run fewshot retarget again.",
    )
    before = read_summary(Versions.of(folder).study(folder))
    show_changes(console, changes, in_words(before["members"], result))
    return answered(result, is_json, changes=[one.to_json() for one in changes])


def show_changes(console: Console, changes: Sequence[Change], changed: str) -> None:
    """Print which model it is now, and what that gains and loses."""
    heads = "before", "now", "difference (95 %)", ""
    rows = table("", *heads, right=heads[:2])
    for one in changes:
        pair = [
            f"{x:,.0f}" if one.low is None and (x >= 100 or x == int(x)) else number(x)
            for x in (one.before, one.after)
        ]
        reach = "" if one.low is None else f"{one.low:+.3f} to {one.high:+.3f}"
        rows.add_row(one.name.replace("_", " "), *pair, reach, one.verdict)
    console.print(Text(f"\n{changed}\n\nAgainst the model before, cross-validated:"))
    console.print(rows)
