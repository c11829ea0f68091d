"""The command ``export``: a model for another runtime, proven equal to its source."""

from dataclasses import asdict
from pathlib import Path

import click

from fewshot_automl.automl.export import export_study
from fewshot_automl.cli.console import people, print_json, say, table
from fewshot_automl.cli.options import FOLDER, json_option
from fewshot_automl.errors import UserError
from fewshot_automl.export.formats import FORMATS
from fewshot_automl.export.web import single_file
from fewshot_automl.export.write import MAX_LOSS


@click.command("export")
@click.argument("model", type=FOLDER)
@click.option(
    "--format",
    "name",
    type=click.Choice([*FORMATS]),
    default="onnx",
    show_default=True,
    help="; ".join(f"{row.name}: {row.title}" for row in FORMATS.values()) + ".",
)
@click.option(
    "--quantize",
    type=click.Choice(["int8", "float32"]),
    help="int8 is smaller and faster, a little less exact, and refused where it costs "
    "too much. Default: int8 for a page that reads texts, if it is good enough.",
)
@click.option(
    "--max-loss",
    type=click.FloatRange(min=0),
    default=MAX_LOSS,
    show_default=True,
    metavar="SCORE",
    help="Most that int8 may cost in the metric of the fit, cross-validated.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="DIR",
    help="Folder to write: new, empty, or an export, which is replaced.",
)
@click.option(
    "--single-file",
    "is_single",
    is_flag=True,
    help="Of web: write DIR.html too, which opens by double click, without a network.",
)
@click.option("--data", metavar="DATA", help="The fit's data, if they have moved.")
@json_option
def export(
    model: Path,
    name: str,
    quantize: str | None,
    max_loss: float,
    out: Path,
    is_single: bool,
    data: str | None,
    is_json: bool,
) -> None:
    """Write a model into a folder that needs neither this package nor training code.

    It is run there on the examples of the fit, and kept only if it answers as its
    source does. MODEL is the --out folder of a fit.

    \b
    Examples:
      fewshot export runs/mail --out mail-onnx
      fewshot export runs/mail --quantize int8 --out mail-int8
      python mail-onnx/predict.py "is this spam?"
    """
    if is_single and name != "web":
        raise UserError(f"--single-file must come with --format web, got {name}.")
    made = export_study(
        model, name, out, quantize=quantize, max_loss=max_loss, data=data, say=say
    )
    rows = table("", "source", "export", right=("source", "export"))
    for cells in made.proof.rows:
        rows.add_row(*cells)
    console = people(is_json)
    console.print(rows)
    console.print(f"\nWrote {out}. Ask it: python {out}/predict.py")
    if is_single:
        single_file(out, out.with_name(f"{out.name}.html"))
        console.print(f"Wrote {out}.html. Open it in a browser.")
    if is_json:
        print_json({"folder": str(out), **asdict(made.proof)})
