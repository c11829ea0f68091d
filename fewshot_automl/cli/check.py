"""The command ``check``: is new data still like what the model learnt from?"""

from dataclasses import asdict
from pathlib import Path

import click
from rich.text import Text

from fewshot_automl.automl.check import check as run_check
from fewshot_automl.cli.console import people, print_json, table
from fewshot_automl.cli.entry import NO_USE
from fewshot_automl.cli.options import FOLDER, data_option, json_option


@click.command("check")
@click.argument("folder", type=FOLDER)
@click.argument("new", metavar="NEW_DATA")
@click.option(
    "--target", metavar="COL", help="Column of labels in NEW_DATA, to check the score."
)
@data_option
@json_option
def check(
    folder: Path, new: str, target: str | None, data: str | None, is_json: bool
) -> int:
    """Say whether new data differ from those that a model learnt from.

    Compares examples as the model sees them, what it answers and how sure it is; with
    labels also the score with what was promised. Exit code 3 if an alarm is set: chance
    alone sets one in 1 of 100 checks. FOLDER is the --out folder of a fit.

    \b
    Examples:
      fewshot check runs/mail this-week.csv
      fewshot check runs/mail labelled.csv --target label --json
    """
    found = run_check(folder, new, target=target, data=data)
    console = people(is_json)
    rows = table("", "in training", "in the new data", "p-value", "")
    for one in found.findings:
        p_value = "" if one.p_value is None else f"{one.p_value:.2g}"
        mark = "ALARM" if one.is_alarm else "as expected"
        rows.add_row(one.name, one.expected, one.found, p_value, mark)
    console.print(rows)
    for note in found.notes:
        console.print(Text(note))
    if found.farthest:
        places = ", ".join(f"{at} ({near:.2f})" for at, near in found.farthest)
        console.print(f"Least like any labelled example (cosine): {places}.")
    else:
        console.print("No frozen backbone: only what the model answers is compared.")
    if is_json:
        print_json({**asdict(found), "is_alarm": found.is_alarm})
    return NO_USE if found.is_alarm else 0
