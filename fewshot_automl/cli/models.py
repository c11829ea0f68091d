"""The commands that use a finished model: ``predict`` and ``score``."""

import io
import itertools
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
from fewshot_automl.data.files import mended
from fewshot_automl.data.sources import read_table
from fewshot_automl.errors import UserError
from fewshot_automl.finding import Finding, counted
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
@click.option(
    "--sets",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="ALPHA",
    help="Add a column prediction_set: classes, joined by |, among which the true one "
    "is missing in at most this share of examples.",
)
@click.option(
    "--sets-by-class", is_flag=True, help="Let that hold within each class, too."
)
def predict(
    model: Path,
    data: str,
    out: Path | None,
    proba: bool,
    sets: float | None,
    sets_by_class: bool,
) -> None:
    """Write DATA with a column `prediction` added.

    A row that cannot be read has no prediction and says why in a column `problem`.

    MODEL is the --out folder of a fit. DATA is like the training data; labels are
    not needed and not read.

    \b
    Examples:
      fewshot predict runs/reviews new.csv
      fewshot predict runs/reviews new.csv --out answers.parquet --proba
      fewshot predict runs/reviews new.csv --sets 0.1
    """
    if out is not None:
        if out.suffix.lower() not in FORMATS:
            known = ", ".join(FORMATS)
            raise UserError(f"--out must end in {known}, got '{out.name}'. Rename it.")
        check_folder_of(out)
    table = read_table(data, prefer=())
    predictor = load_model(model)
    examples = read_inputs(data, predictor.task, predictor.columns)
    cells = zip(examples.inputs, examples.origins, strict=True)
    empty = [at for cell, at in cells if isinstance(cell, str) and not cell.strip()]
    message = f"{counted(len(empty), 'empty text')}, where a prediction says nothing."
    for finding in Finding.any_at("empty text", "warning", message, empty):
        say(finding.line())
    outputs, faults = predictor.answers(examples.inputs, say)
    held = None
    if sets is not None:
        held = predictor.named_sets(outputs, sets, by_class=sets_by_class)
    elif sets_by_class:
        raise UserError("--sets-by-class must come with --sets, got it alone.")
    made = with_predictions(table.columns, predictor.task, outputs, proba, faults, held)
    write_table(made, out)
    for finding in (*table.findings, *examples.unreadable(faults)):
        say(finding.line())
    if "prediction" in table.columns:
        ours = next(name for name in reversed(made) if name.startswith("prediction"))
        say(f"DATA has a column 'prediction', which is kept; the new one is {ours!r}.")
    if out is not None:
        say(f"Wrote {len(examples) - len(faults)} predictions to {out}")


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
    scores = predictor.scores_on(labelled, say)
    if scores.get("coverage", 1.0) < 1.0:
        say("Scores of answers are of the examples that are answered (coverage).")
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
    faults: Mapping[int, str],
    sets: Sequence[Sequence[str]] | None = None,
) -> dict[str, Sequence[object]]:
    """Return the columns with predictions after them, empty in the rows of `faults`.

    So is an example that the model does not answer.

    Columns of the data are kept: if one is called as ours, ours get a number.

    >>> task = Task(modality="text", names=("no", "yes"))
    >>> proba = np.array([[0.25, 0.75]])
    >>> with_predictions({"text": ["hm"]}, task, proba, True, {})
    {'text': ['hm'], 'prediction': ['yes'], 'proba_no': [0.25], 'proba_yes': [0.75]}
    """
    rows = enumerate(task.rules.decode(outputs))
    made: dict[str, Sequence[object]] = {
        "prediction": [None if row in faults else decoded for row, decoded in rows]
    }
    if sets is not None:
        made["prediction_set"] = ["|".join(names) for names in sets]
    if with_proba:
        made |= task.rules.columns(outputs)
    if faults:
        made["problem"] = [faults.get(row) for row in range(len(outputs))]
    endings = itertools.chain([""], (f"_{number}" for number in itertools.count(2)))
    end = next(end for end in endings if not columns.keys() & {n + end for n in made})
    return {**columns, **{name + end: cells for name, cells in made.items()}}


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
        out = path or sys.stdout
        if isinstance(out, io.TextIOWrapper) and out.encoding.lower() != "utf-8":
            say(f"stdout is {out.encoding}; the answer is written in UTF-8.")
            out.reconfigure(encoding="utf-8")
        frame.to_csv(out, sep=delimiter, index=False)


def _plain(cell: object) -> Any:
    if cell is None or isinstance(cell, int | float | bool):
        return cell
    if isinstance(cell, Mapping) and "bytes" in cell:  # an encoded image
        return str(cell.get("path") or "image")
    # Bytes that are not UTF-8, or half a character, could not be written.
    return mended(str(cell)).encode("utf-8", "replace").decode()
