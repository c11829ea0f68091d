"""The commands ``slices`` and ``repair``: where a model fails, and mending it."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from fewshot_automl.automl.repair import MARGIN, Repair
from fewshot_automl.automl.repair import repair as run_repair
from fewshot_automl.automl.slices import Failures
from fewshot_automl.automl.slices import slices as run_slices
from fewshot_automl.cli.console import people, print_json, table
from fewshot_automl.cli.entry import NO_USE
from fewshot_automl.cli.models import FORMATS, write_table
from fewshot_automl.cli.options import FOLDER, check_folder_of, data_option, json_option
from fewshot_automl.cli.retarget import show_changes
from fewshot_automl.data import LABEL
from fewshot_automl.errors import UserError
from fewshot_automl.finding import counted
from fewshot_automl.report.words import clipped

MOST = 15
"""Slices, and labels that look wrong, that are listed."""


@click.command("slices")
@click.argument("folder", type=FOLDER)
@click.option(
    "--suspects",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write examples whose label looks wrong, with the suggested one in its place, "
    "to be looked through and given to `fewshot update`.",
)
@data_option
@json_option
def slices(
    folder: Path, suspects: Path | None, data: str | None, is_json: bool
) -> None:
    """Show where a model fails: labels that look wrong, and slices of the examples.

    Judged by the cross-validated predictions of the fit. Slices are classes, confused
    pairs, clusters, lengths and values of other columns of the table. FOLDER is the
    --out folder of a fit.

    \b
    Examples:
      fewshot slices runs/mail
      fewshot slices runs/mail --suspects wrong.csv
      fewshot slices runs/mail --json
    """
    if suspects is not None and suspects.suffix.lower() not in FORMATS:
        known = ", ".join(FORMATS)
        raise UserError(f"--suspects must end in {known}, got '{suspects.name}'.")
    if suspects is not None:
        check_folder_of(suspects)
    found = run_slices(folder, data=data)
    console = people(is_json)
    doubts = table("row", "label", "suggested", "label is probable", "example")
    for one in found.suspects[:MOST]:
        words = clipped(one.example, 60) if isinstance(one.example, str) else ""
        row = (one.origin, one.given, one.suggested, f"{one.quality:.2f}", words)
        doubts.add_row(*map(Text, row))
    count = len(found.suspects)
    console.print(Text(f"{counted(count, 'label')} that may be wrong; look at them."))
    if count:
        console.print(doubts)
        console.print(f"... and {count - MOST} more\n" if count > MOST else "")
    heads = "mistakes", "of", "rate", "95 % interval", "rest", "q-value"
    rows = table("", "slice", *heads, "", right=heads)
    for each in found.slices[:MOST]:
        reach, mark = f"{each.low:.2f} to {each.high:.2f}", "worse" * each.is_worse
        shares = f"{each.rate:.2f}", reach, f"{each.rest:.2f}", f"{each.q_value:.2g}"
        sizes = str(each.mistakes), str(each.examples)
        rows.add_row(str(each.number), Text(each.name), *sizes, *shares, mark)
    about = f"Of {counted(found.examples, 'example')} {found.rate:.2f} are mistakes."
    console.print(f"{about} Slices, the surest to be worse than the rest first:")
    console.print(rows)
    for each in found.slices:
        if each.is_worse:
            console.print(Text(f"\n{each.number} {each.name}, for instance:"))
            for said in each.shown:
                console.print(Text(f"    {clipped(said, 110)}"))
    if suspects is not None:
        write_table(corrected(found), suspects)
        console.print(Text(f"Wrote {counted(count, 'example')} to {suspects}"))
    if is_json:
        print_json(_plain(found))


def corrected(found: Failures) -> dict[str, list[Any]]:
    """Return a table of the suspects, as `update` reads it.

    Raises:
        UserError: If an example is an image in memory, which no table of text can hold.
    """
    cells = [
        one.example.absolute() if isinstance(one.example, Path) else one.example
        for one in found.suspects
    ]
    if not all(isinstance(cell, str | Path) for cell in cells):
        raise UserError(
            "--suspects must be of texts or image files, got images in memory. In "
            "Python, take them from slices(...).suspects."
        )
    return {
        found.columns.input or "input": cells,
        found.columns.target or LABEL: [one.suggested for one in found.suspects],
        "label given": [one.given for one in found.suspects],
        "label given is probable": [one.quality for one in found.suspects],
    }


def _plain(found: Failures) -> dict[str, Any]:
    suspects = [asdict(one) for one in found.suspects]
    for one in suspects:
        if not isinstance(one["example"], str):
            del one["example"]
    rows = [{**asdict(one), "is_worse": one.is_worse} for one in found.slices]
    about = {"examples": found.examples, "rate": found.rate}
    return {**about, "suspects": suspects, "slices": rows}


@click.command("repair")
@click.argument("folder", type=FOLDER)
@click.option(
    "--slice", "place", type=int, metavar="N", help="Number from `fewshot slices`."
)
@click.option(
    "--examples", metavar="DATA", help="Examples of the fit to mend, in place of it."
)
@click.option(
    "--margin",
    type=float,
    default=MARGIN,
    show_default=True,
    metavar="SHARE",
    help="Share of right answers that may be lost elsewhere.",
)
@data_option
@json_option
def repair(
    folder: Path,
    place: int | None,
    examples: str | None,
    margin: float,
    data: str | None,
    is_json: bool,
) -> int:
    """Mend a slice in which the model fails, if that does not hurt elsewhere.

    Mistakes of the classes that it misses most come to weigh more, if that passes a
    paired test on cross-validated predictions. It is a new version of the model in
    FOLDER; see `fewshot versions`. Exit code 3 if it does not help.

    \b
    Examples:
      fewshot repair runs/mail --slice 1
      fewshot repair runs/mail --examples complaints.csv --margin 0.01
    """
    about: dict[str, Any] = {"margin": margin, "data": data}
    found = run_repair(folder, slice=place, examples=examples, **about)
    console = people(is_json)
    size = counted(found.examples, "example")
    console.print(Text(f"{found.name}, {size}; right answers:"))
    rows = table("", "before", "now", "", right=("before", "now"))
    told = f"{found.fixed} fixed, {found.broken} broken (p-value {found.p_value:.2g})"
    rows.add_row("in it", f"{found.before:.2f}", f"{found.now:.2f}", told)
    pair = f"{found.rest_before:.3f}", f"{found.rest_now:.3f}"
    rows.add_row("elsewhere", *pair, f"difference at least {found.rest_low:+.3f}")
    console.print(rows)
    if found.version is None:
        console.print(Text(f"\n{_advice(found, folder)}"))
    else:
        show_changes(console, found.changes, "Its members are the same.")
        number = found.version
        console.print(Text(f"\nIt is version {number}; see: fewshot versions {folder}"))
    if is_json:
        changed = [one.to_json() for one in found.changes]
        print_json({**asdict(replace(found, result=None)), "changes": changed})
    return NO_USE if found.version is None else 0


def _advice(found: Repair, folder: Path) -> str:
    """Return what would help where nothing that was tried does."""
    said = "That does not help surely; the model is as it was."
    if found.suspects:
        said += (
            f" {counted(found.suspects, 'label')} of the slice may be wrong: look at "
            f"them (fewshot slices {folder} --suspects FILE), and correct them with "
            f"fewshot update {folder} FILE."
        )
    return f"{said} Label more examples like those of the slice: fewshot update."
