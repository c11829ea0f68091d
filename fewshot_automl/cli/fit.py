"""The commands ``fit`` and ``resume``."""

import itertools
import re
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

from fewshot_automl.automl.fit import fit as run_fit
from fewshot_automl.automl.fit import resume as run_resume
from fewshot_automl.automl.record import STUDY_FILE, settings_of
from fewshot_automl.automl.result import Result
from fewshot_automl.automl.settings import Settings
from fewshot_automl.cli.console import people, print_json
from fewshot_automl.cli.entry import INTERRUPTED, NO_USE, started
from fewshot_automl.cli.options import (
    FOLDER,
    data_option,
    json_option,
    seconds,
    setting_options,
    settings_of_words,
)
from fewshot_automl.executors import serve_if_launched

RUNS: Final = Path("runs")
"""Where results go when nobody says where."""


@click.command("fit")
@click.argument("data")
@click.option("--test", metavar="DATA", help="Labelled data to score the model on.")
@setting_options()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder for the model and all that was found. Default: runs/<name of DATA>.",
)
@json_option
def fit(
    data: str, test: str | None, out: Path | None, is_json: bool, **chosen: Any
) -> int:
    """Find, fit and honestly score the best model that a few labels can buy.

    DATA is a table (CSV, TSV, Excel, JSON, Parquet), a folder with one folder of
    images or texts for each class, or the name of a Hugging Face dataset.

    \b
    Examples:
      fewshot fit reviews.csv --target sentiment
      fewshot fit train.csv --target label --test test.csv --budget 2min
      fewshot fit photos/ --budget 10min --out model
      fewshot fit t.jsonl --target y --backbones minilm-l6 --methods probe,lora
      fewshot fit t.jsonl --target y --max-parameters 25M --objectives latency_ms
    """
    settings, folder = settings_of_words(chosen), out or free_folder(data)
    work = partial(
        run_fit, data, test=test, out=folder, settings=settings, started=started()
    )
    return _answered(work, settings, folder, is_json)


@click.command("resume")
@click.argument("folder", type=FOLDER)
@click.option(
    "--budget",
    metavar="MORE",
    callback=seconds,
    help="Time to add to what is left: 90s, 5min, 2h.",
)
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    metavar="MORE",
    help="Trials to add to a study that --trials limits.",
)
@data_option
@click.option("--test", metavar="DATA", help="The same test data, if they have moved.")
@json_option
def resume(folder: Path, is_json: bool, **given: Any) -> int:
    """Go on with a study that was killed or broken off, or search on.

    Every finished trial counts. FOLDER is the --out folder of a fit.

    \b
    Examples:
      fewshot resume runs/reviews
      fewshot resume runs/reviews --budget 10min
    """
    work = partial(run_resume, folder, **given, started=started())
    return _answered(work, settings_of(folder), folder, is_json, has_bar=False)


def _answered(
    work: Callable[..., Result],
    settings: Settings,
    folder: Path,
    is_json: bool,
    has_bar: bool = True,
) -> int:
    result = shown(work, settings, folder, people(is_json), started(), has_bar=has_bar)
    return answered(result, is_json)


def answered(result: Result, is_json: bool, **more: Any) -> int:
    """Print the answer for programs, if they asked, and return the exit code."""
    if is_json:
        print_json({**result_json(result), **more})
    if result.summary["ending"] == "interrupted":
        return INTERRUPTED
    return NO_USE if result.score.against_majority == "not better" else 0


def shown(
    work: Callable[..., Result],
    settings: Settings,
    folder: Path,
    console: Console,
    began: float,
    *,
    has_bar: bool = True,
    broken: str = "Go on with: fewshot resume {place}",
) -> Result:
    """Run a fit before the user's eyes and print its result.

    `broken` says what to do if it is broken off, `place` being its folder.
    """
    from fewshot_automl.automl.screen import Progress, show_result

    serve_if_launched()  # so that one process shows what happens
    progress = Progress(console, began, settings, folder, has_bar=has_bar)
    try:
        with progress.live():
            result = work(listener=progress)
    except (KeyboardInterrupt, OSError):  # such as a disk that is full
        if (folder / STUDY_FILE).exists():
            place = shlex.quote(str(folder))
            progress.say(f"Broken off. {broken.format(place=place)}")
        raise
    show_result(console, result)
    return result


def result_json(result: Result) -> dict[str, Any]:
    """Return the answer for programs: `result.json` and where things are."""
    names = {"folder": "", "model": "model", "report": "report.html"}
    places = {name: str(result.folder / path) for name, path in names.items()}
    return {**result.summary, **places}


def free_folder(data: str) -> Path:
    """Return a folder under ``runs`` that is named after the data and not there yet.

    >>> free_folder("some/where/few labels.csv").name
    'few-labels'
    """
    stem = re.sub(r"[^\w.-]+", "-", Path(data.rstrip("/\\")).stem).strip("-.")
    plain = RUNS / (stem or "data")
    more = (plain.with_name(f"{plain.name}-{n}") for n in itertools.count(2))
    return next(f for f in itertools.chain([plain], more) if not f.exists())
