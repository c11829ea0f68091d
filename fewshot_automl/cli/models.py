"""The commands that use a finished model: ``predict`` and ``score``."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import numpy as np
import pandas as pd
from jaxtyping import Float

from fewshot_automl.automl.record import STUDY_FILE
from fewshot_automl.cli.console import print_json, say
from fewshot_automl.cli.options import FOLDER, check_folder_of, json_option
from fewshot_automl.data import read_inputs, read_like
from fewshot_automl.data.sources import read_table
from fewshot_automl.errors import UserError
from fewshot_automl.tasks import Task

if TYPE_CHECKING:
    from fewshot_automl.predictor import Predictor

FORMATS: Final = (".csv", ".tsv", ".jsonl", ".parquet")


@click.command("predict")
@click.argument("model", type=FOLDER)
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

    \b
    Examples:
      fewshot predict runs/reviews new.csv
      fewshot predict runs/reviews new.csv --out answers.parquet --proba
    """
    if out is not None:
        if out.suffix.lower() not in FORMATS:
            known = ", ".join(FORMATS)
            raise UserError(f"--out must end in {known}, got '{out.name}'. Rename it.")
        check_folder_of(out)
    columns = read_table(data, prefer=()).columns
    predictor = load_model(model)
    examples = read_inputs(data, predictor.task, predictor.columns)
    outputs = predictor.outputs_of(examples.inputs)
    made = with_predictions(columns, predictor.task, outputs, proba)
    write_table(made, out)
    if out is not None:
        say(f"Wrote {len(examples)} predictions to {out}")


@click.command("score")
@click.argument("model", type=FOLDER)
@click.argument("data")
@click.option(
    "--target", metavar="COL", help="Column of labels. Default: as in the fit."
)
@json_option
def score(model: Path, data: str, target: str | None, is_json: bool) -> None:
    """Print the metric that was searched for, and others, on labelled DATA.

    \b
    Examples:
      fewshot score runs/reviews test.csv --target sentiment
      fewshot score runs/photos test_photos/ --json
    """
    predictor = load_model(model)
    examples = read_like(data, predictor.task, predictor.columns, target)
    labelled = examples.labelled(predictor.task)
    if left_out := len(examples) - len(labelled):
        say(f"{left_out} rows without a label are left out.")
    scores = predictor.scores_on(labelled)
    if is_json:
        metric = {"metric": predictor.task.metric}
        print_json({**metric, **scores, "n": len(labelled)})
        return
    for name, value in scores.items():
        shown = f"{value:.0f}" if name == "n" else f"{value:.4f}"
        mark = "  (searched for)" if name == predictor.task.metric else ""
        click.echo(f"{name.replace('_', ' '):<20}{shown}{mark}")


def load_model(folder: Path) -> "Predictor":
    """Return the model in a folder; a folder without one is the user's to mend."""
    from fewshot_automl.predictor import MANIFEST, Predictor

    if not any((place / MANIFEST).exists() for place in (folder, folder / "model")):
        advice = "Give the --out folder of a `fewshot fit`."
        if (folder / STUDY_FILE).exists():
            advice = f"Finish the study first: fewshot resume {folder}"
        raise UserError(f"MODEL must be a folder with a model, got {folder}. {advice}")
    return Predictor.load(folder)


def with_predictions(
    columns: Mapping[str, Sequence[object]],
    task: Task,
    outputs: Float[np.ndarray, "examples width"],
    with_proba: bool,
) -> dict[str, Sequence[object]]:
    """Return the columns with predictions after them.

    A column that is called as one of ours is replaced.

    >>> task = Task(modality="text", names=("no", "yes"))
    >>> with_predictions({"text": ["hm"]}, task, np.array([[0.25, 0.75]]), True)
    {'text': ['hm'], 'prediction': ['yes'], 'proba_no': [0.25], 'proba_yes': [0.75]}
    """
    made: dict[str, Sequence[object]] = {"prediction": task.rules.decode(outputs)}
    if with_proba:
        made |= task.rules.columns(outputs)
    return {**{name: c for name, c in columns.items() if name not in made}, **made}


def write_table(columns: Mapping[str, Sequence[object]], path: Path | None) -> None:
    """Write columns in the format of the file's suffix, or as CSV to stdout."""
    frame = pd.DataFrame(
        {
            name: pd.Series([_plain(cell) for cell in cells], dtype=object)
            for name, cells in columns.items()
        }
    )
    kind = None if path is None else path.suffix.lower()
    if kind == ".parquet":
        for name, cells in frame.items():
            if cells.map(type)[cells.notna()].nunique() > 1:  # a column has one type
                frame[name] = cells.map(str, na_action="ignore")
        frame.infer_objects().to_parquet(path, index=False)
    elif kind == ".jsonl":
        frame.to_json(path, orient="records", lines=True, force_ascii=False)
    else:
        delimiter = "\t" if kind == ".tsv" else ","
        frame.to_csv(path or sys.stdout, sep=delimiter, index=False)


def _plain(cell: object) -> Any:
    """Return a cell as every format can hold it."""
    if cell is None or isinstance(cell, str | int | float | bool):
        return cell
    if isinstance(cell, Mapping) and "bytes" in cell:  # an encoded image
        return str(cell.get("path") or "image")
    return str(cell)
