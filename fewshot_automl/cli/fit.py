"""The commands ``fit`` and ``resume``."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fewshot_automl.automl.settings import Settings
from fewshot_automl.cli.commands import Command
from fewshot_automl.cli.console import people, print_json
from fewshot_automl.cli.entry import INTERRUPTED, started
from fewshot_automl.cli.options import (
    FOLDER,
    json_option,
    seconds,
    setting_options,
    settings_of_words,
)

if TYPE_CHECKING:  # brings in torch: help and wrong words must not wait for it
    from rich.console import Console

    from fewshot_automl.automl.result import Result
    from fewshot_automl.cli.progress import Progress

RUNS: Final = Path("runs")
"""Where results go when nobody says where."""


@click.command("fit", cls=Command)
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

    DATA is a table (CSV, TSV, JSONL, Parquet), a folder with one folder of images
    for each class, or the name of a Hugging Face dataset.

    Examples:
      fewshot fit reviews.csv --target sentiment
      fewshot fit train.csv --target label --test test.csv --budget 2min
      fewshot fit photos/ --budget 10min --out model
      fewshot fit t.jsonl --target y --backbones minilm-l6 --methods probe lora
      fewshot fit t.jsonl --target y --max-parameters 25M --objectives latency_ms
    """
    settings = settings_of_words(chosen)
    folder = out or free_folder(data)

    def work(progress: "Progress") -> "Result":
        from fewshot_automl.automl.fit import fit

        return fit(
            data,
            test=test,
            out=folder,
            settings=settings,
            listener=progress,
            started=started(),
        )

    return _show(work, settings, folder, is_json)


@click.command("resume", cls=Command)
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
@json_option
def resume(
    folder: Path, budget: float | None, trials: int | None, is_json: bool
) -> int:
    """Go on with a study that was killed or broken off, or search on.

    Every finished trial counts. FOLDER is the --out folder of a fit.

    Examples:
      fewshot resume runs/reviews
      fewshot resume runs/reviews --budget 10min
    """
    from fewshot_automl.automl.record import settings_of

    def work(progress: "Progress") -> "Result":
        from fewshot_automl.automl.fit import resume

        return resume(
            folder, budget=budget, trials=trials, listener=progress, started=started()
        )

    return _show(work, settings_of(folder), folder, is_json, has_bar=False)


def _show(
    work: "Callable[[Progress], Result]",
    settings: Settings,
    folder: Path,
    is_json: bool,
    has_bar: bool = True,
) -> int:
    """Run a fit before the user's eyes, print its result, return the exit code."""
    from fewshot_automl.cli.results import result_json, show_result

    console = people(is_json)
    result = watch(work, settings, folder, console, started(), has_bar=has_bar)
    show_result(console, result)
    if is_json:
        print_json(result_json(result))
    return INTERRUPTED if result.summary["ending"] == "interrupted" else 0


def watch(
    work: "Callable[[Progress], Result]",
    settings: Settings,
    folder: Path,
    console: "Console",
    began: float,
    *,
    has_bar: bool = True,
) -> "Result":
    """Run a fit with its progress shown."""
    from fewshot_automl.automl.record import STUDY_FILE
    from fewshot_automl.cli.progress import Progress

    progress = Progress(console, began, settings, folder, has_bar=has_bar)
    try:
        with progress:
            return work(progress)
    except KeyboardInterrupt:
        if (folder / STUDY_FILE).exists():
            progress.say(f"Broken off. Go on with: fewshot resume {folder}")
        raise


def free_folder(data: str) -> Path:
    """Return a folder under ``runs`` that is named after the data and not there yet.

    >>> free_folder("some/where/few labels.csv").name
    'few-labels'
    """
    stem = re.sub(r"[^\w.-]+", "-", Path(data.rstrip("/\\")).stem).strip("-.")
    plain = RUNS / (stem or "data")
    more = (plain.with_name(f"{plain.name}-{n}") for n in itertools.count(2))
    return next(f for f in itertools.chain([plain], more) if not f.exists())
