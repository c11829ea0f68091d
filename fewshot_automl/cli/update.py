"""The commands ``update`` and ``versions``: new labels for a finished study."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from fewshot_automl.automl.finished import Versions
from fewshot_automl.automl.record import settings_of
from fewshot_automl.automl.update import update as run_update
from fewshot_automl.cli.console import people, print_json, say, table
from fewshot_automl.cli.entry import started
from fewshot_automl.cli.fit import answered, shown
from fewshot_automl.cli.options import (
    FOLDER,
    data_option,
    json_option,
    names,
    seconds,
    texts,
)
from fewshot_automl.report.words import number


@click.command("update")
@click.argument("folder", type=FOLDER)
@click.argument("new", required=False, metavar="[NEW_DATA]")
@click.option(
    "--rename",
    multiple=True,
    callback=texts,
    metavar="CLASS=NAME",
    help="New name of a class; a name that is there merges the two. May be repeated.",
)
@click.option(
    "--drop",
    multiple=True,
    callback=names,
    metavar="CLASS,...",
    help="Classes to leave out, with their examples.",
)
@click.option(
    "--budget",
    metavar="TIME",
    callback=seconds,
    help="Time for it all, as 30s; decides how members that train are fitted again. "
    "Default: a tenth of what the study took.",
)
@click.option(
    "--search",
    metavar="TIME",
    callback=seconds,
    help="Search on for so long if another Config leads now. Default: do not.",
)
@data_option
@json_option
def update(
    folder: Path,
    new: str | None,
    rename: dict[str, str],
    drop: tuple[str, ...] | None,
    budget: float | None,
    search: float | None,
    data: str | None,
    is_json: bool,
) -> int:
    """Learn from new and corrected labels without searching again.

    FOLDER is the --out folder of a fit, NEW_DATA is like its data. A row whose text or
    image is known corrects its label; other rows are added. The best Configs are tried
    again on all labels. The model that comes of it is a new version of the one in
    FOLDER; see `fewshot versions`.

    \b
    Examples:
      fewshot update runs/mail new-labels.csv
      fewshot update runs/mail new-labels.csv --search 5min
      fewshot update runs/mail --rename "junk=spam" --drop other
    """
    about: dict[str, Any] = {"budget": budget, "search": search, "data": data}
    work = partial(
        run_update,
        folder,
        new,
        rename=rename,
        drop=drop or (),
        **about,
        started=started(),
    )
    console = people(is_json)
    asked = settings_of(Versions.of(folder).study(folder))
    advice = "Nothing has changed in {place}. Run fewshot update again."
    about = {"has_bar": False, "broken": advice}
    result = shown(work, asked, folder, console, started(), **about)
    versions = Versions.of(folder)
    say(f"Version {versions.current}: {versions.rows[-1].said}")
    return answered(result, is_json, version=asdict(versions.rows[-1]))


@click.command("versions")
@click.argument("folder", type=FOLDER)
@click.option("--to", type=int, metavar="N", help="Make this version the model again.")
@json_option
def versions(folder: Path, to: int | None, is_json: bool) -> None:
    """List the versions of the model of a fit, the current one marked.

    \b
    Examples:
      fewshot versions runs/mail
      fewshot versions runs/mail --to 1
    """
    found = Versions.of(folder)
    if to is not None:
        found = found.going_to(to)
        found.write(folder)
    if is_json:
        print_json(
            {"current": found.current, "versions": list(map(asdict, found.rows))}
        )
        return
    rows = table("", "parent", "date", "labels", "to expect", "what changed")
    for row in found.rows:
        mark = f"{row.number}{' *' if row.number == found.current else ''}"
        about = f"{row.metric} {number(row.expected)}"
        parent = str(row.parent or "")
        rows.add_row(mark, parent, row.date[:16], str(row.examples), about, row.said)
    people(False).print(rows)
