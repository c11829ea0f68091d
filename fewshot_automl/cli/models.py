"""The commands that use a finished model: ``predict`` and ``score``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fewshot_automl.cli.commands import Command
from fewshot_automl.cli.options import json_option, model_argument
from fewshot_automl.cli.session import print_json, say
from fewshot_automl.errors import UserError

if TYPE_CHECKING:
    from fewshot_automl.predictor import Predictor


@click.command("predict", cls=Command)
@model_argument
@click.argument("data")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where to write: .csv, .tsv, .jsonl or .parquet. Default: CSV to stdout.",
)
@click.option("--proba", is_flag=True, help="Add a column proba_<class> a class.")
def predict(model: Path, data: str, out: Path | None, proba: bool) -> None:
    """Write DATA with a column `prediction` added.

    MODEL is the --out folder of a fit. DATA is like the training data; labels are
    not needed and not read.

    Examples:
      fewshot predict runs/reviews new.csv
      fewshot predict runs/reviews new.csv --out answers.parquet --proba
    """
    from fewshot_automl.cli.tables import add_predictions, check_format, write_table
    from fewshot_automl.data import read_inputs
    from fewshot_automl.data.sources import read_table

    check_format(out)
    predictor = load_model(model)
    table = read_table(data, prefer=())
    examples = read_inputs(data, predictor.task, predictor.columns)
    probabilities = predictor.predict_proba_of(examples.inputs)
    columns = add_predictions(
        table.columns, predictor.task.class_names, probabilities, with_proba=proba
    )
    write_table(columns, out)
    if out is not None:
        say(f"Wrote {len(examples)} predictions to {out}")


@click.command("score", cls=Command)
@model_argument
@click.argument("data")
@click.option(
    "--target", metavar="COL", help="Column of labels. Default: as in the fit."
)
@json_option
def score(model: Path, data: str, target: str | None, is_json: bool) -> None:
    """Print accuracy, macro-F1, log loss and n on labelled DATA.

    Examples:
      fewshot score runs/reviews test.csv --target sentiment
      fewshot score runs/photos test_photos/ --json
    """
    from fewshot_automl.automl.delivery import score_predictions
    from fewshot_automl.data import read_like

    predictor = load_model(model)
    examples = read_like(data, predictor.task, predictor.columns, target)
    labelled = examples.labelled()
    left_out = len(examples) - len(labelled)
    if left_out:
        say(f"{left_out} rows without a label are left out.")
    probabilities = predictor.predict_proba_of(labelled.inputs)
    scores = score_predictions(labelled.labels, probabilities)
    if is_json:
        print_json({**scores, "n": len(labelled)})
        return
    click.echo(f"accuracy  {scores['accuracy']:.4f}")
    click.echo(f"macro-F1  {scores['macro_f1']:.4f}")
    click.echo(f"log loss  {scores['log_loss']:.4f}")
    click.echo(f"n         {len(labelled)}")


def load_model(folder: Path) -> "Predictor":
    """Return the model in a folder.

    Raises:
        UserError: If there is none.
        ExportError: If it is damaged.
    """
    from fewshot_automl.automl.record import STUDY_FILE
    from fewshot_automl.predictor import MANIFEST, Predictor

    if not any((place / MANIFEST).exists() for place in (folder, folder / "model")):
        is_study = (folder / STUDY_FILE).exists()
        advice = (
            f"Finish the study first: fewshot resume {folder}"
            if is_study
            else "Give the --out folder of a `fewshot fit`."
        )
        raise UserError(f"MODEL must be a folder with a model, got {folder}. {advice}")
    return Predictor.load(folder)
