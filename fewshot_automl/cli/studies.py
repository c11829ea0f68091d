"""The commands ``fit`` and ``resume``."""

import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from fewshot_automl.cli.commands import Command, ListCommand, NamesOption
from fewshot_automl.cli.options import goal_options, json_option, search_options
from fewshot_automl.cli.session import people, print_json, session

if TYPE_CHECKING:
    from rich.console import Console

    from fewshot_automl.automl import Result
    from fewshot_automl.cli.display import Display
    from fewshot_automl.oracle.goals import Limit

RUNS: Final = Path("runs")
"""Where results go when nobody says where."""
NO_LIMIT: Final = "none"


def _metrics() -> list[str]:

    from fewshot_automl.tasks import metric_names

    return list(metric_names())


def _oracles() -> list[str]:
    from fewshot_automl.oracle.table import ORACLES

    return list(ORACLES)


def _executors() -> list[str]:
    from fewshot_automl.executors.table import EXECUTORS

    return list(EXECUTORS)


@click.command(
    "fit", cls=ListCommand, short_help="Find the best model that a few labels can buy."
)
@click.argument("data")
@search_options
@click.option("--test", metavar="DATA", help="Labelled data to score the model on.")
@click.option(
    "--budget",
    default="5min",
    metavar="TIME",
    help="Wall time of everything: 90s, 5min, 2h; none for no limit. Default: 5min.",
)
@click.option("--trials", type=click.IntRange(min=1), help="Most trials.")
@click.option(
    "--metric",
    cls=NamesOption,
    table=_metrics,
    metavar="NAME",
    help="What to maximise. Default: accuracy.",
)
@goal_options
@click.option(
    "--members",
    type=click.IntRange(min=1),
    help="Most models averaged where the labels cannot rank them. Default: 3, or 5 "
    "with 10 minutes or more.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Default: 0.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder for the model and all that was found. Default: runs/<name of DATA>.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Refuse unreadable examples instead of leaving them out.",
)
@click.option(
    "--storage",
    metavar="URL",
    help="Optuna storage of the trials. Default: a journal file in the folder.",
)
@click.option(
    "--oracle",
    cls=NamesOption,
    table=_oracles,
    metavar="NAME",
    default="gp",
    help="What chooses the next trial. Default: gp.",
)
@click.option(
    "--prior",
    metavar="FILE",
    help="Past studies that advise the oracle (see: fewshot prior); none for no "
    "advice. Default: those that come with fewshot.",
)
@click.option(
    "--executor",
    cls=NamesOption,
    table=_executors,
    metavar="NAME",
    default="in_process",
    help="Where trials run. Default: in_process.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, help="Trials side by side."
)
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps. Default: best.")
@json_option
def fit(
    data: str,
    target: str | None,
    text: str | None,
    image: str | None,
    modality: str | None,
    backbones: tuple[str, ...] | None,
    methods: tuple[str, ...] | None,
    test: str | None,
    budget: str,
    trials: int | None,
    metric: str | None,
    objectives: tuple[str, ...] | None,
    max_parameters: float | None,
    max_flops: float | None,
    max_latency_ms: float | None,
    max_memory_mb: float | None,
    min_worst_recall: float | None,
    members: int | None,
    seed: int,
    out: Path | None,
    strict: bool,
    storage: str | None,
    oracle: str,
    prior: str | None,
    executor: str,
    workers: int,
    device: str | None,
    is_json: bool,
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
    from fewshot_automl import automl
    from fewshot_automl.study import parse_budget

    seconds = None if budget == NO_LIMIT else parse_budget(budget)
    settings = automl.Settings(
        target=target,
        text=text,
        image=image,
        modality=modality,
        metric=metric,
        budget_seconds=seconds,
        trials=trials,
        backbones=backbones,
        methods=methods,
        objectives=objectives or (),
        max_parameters=max_parameters,
        max_flops=max_flops,
        max_latency_ms=max_latency_ms,
        max_memory_mb=max_memory_mb,
        min_worst_recall=min_worst_recall,
        members=members,
        seed=seed,
        is_strict=strict,
        storage=storage,
        oracle=oracle,
        prior=prior,
        executor=executor,
        workers=workers,
        device=device,
    )
    folder = out or free_folder(data)
    return show_fit(
        lambda display: automl.fit(
            data,
            test=test,
            budget=None,
            out=folder,
            settings=settings,
            listener=display,
            started=session().started,
        ),
        metric=metric,
        seconds=seconds,
        is_json=is_json,
        folder=folder,
        limits=settings.limits,
    )


@click.command("resume", cls=Command)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--budget", metavar="MORE", help="Time to add to what is left: 90s, 5min, 2h."
)
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    metavar="MORE",
    help="Trials to add to a study that --trials limits.",
)
@json_option
def resume(folder: Path, budget: str | None, trials: int | None, is_json: bool) -> int:
    """Go on with a study that was killed or broken off, or search on.

    Every finished trial counts. FOLDER is the --out folder of a fit.

    Examples:
      fewshot resume runs/reviews
      fewshot resume runs/reviews --budget 10min
    """
    from fewshot_automl import automl

    settings = automl.settings_of(folder)
    return show_fit(
        lambda display: automl.resume(
            folder,
            budget=budget,
            trials=trials,
            listener=display,
            started=session().started,
        ),
        metric=settings.metric,
        seconds=None,
        is_json=is_json,
        folder=folder,
        limits=settings.limits,
    )


def show_fit(
    work: "Callable[[Display], Result]",
    *,
    metric: str | None,
    seconds: float | None,
    is_json: bool,
    folder: Path,
    limits: "Sequence[Limit]" = (),
) -> int:
    """Run a fit before the user's eyes, print its result, return the exit code."""
    from fewshot_automl.cli.results import result_json, show_result

    console = people(is_json)
    result = watch(
        work,
        metric=metric,
        seconds=seconds,
        console=console,
        folder=folder,
        started=session().started,
        limits=limits,
    )
    show_result(console, result)
    if is_json:
        print_json(result_json(result))
    return 130 if result.summary["ending"] == "interrupted" else 0


def watch(
    work: "Callable[[Display], Result]",
    *,
    metric: str | None,
    seconds: float | None,
    console: "Console",
    folder: Path,
    started: float,
    limits: "Sequence[Limit]" = (),
) -> "Result":
    """Run a fit with a display of it."""
    from fewshot_automl.cli.display import Display
    from fewshot_automl.tasks import metric_named

    measured = metric_named(metric or "accuracy")
    display = Display(
        console,
        started=started,
        budget_seconds=seconds,
        metric=measured.name,
        orient=measured.orient,
        folder=folder,
        limits=limits,
    )
    try:
        with display:
            return work(display)
    except KeyboardInterrupt:
        if (folder / "study.json").exists():
            display.say(f"Broken off. Go on with: fewshot resume {folder}")
        raise


def free_folder(data: str) -> Path:
    """Return a folder under ``runs`` that is named after the data and not there yet.

    >>> free_folder("some/where/few labels.csv").name
    'few-labels'
    """
    stem = re.sub(r"[^\w.-]+", "-", Path(data.rstrip("/\\")).stem).strip("-.")
    plain = RUNS / (stem or "data")
    if not plain.exists():
        return plain
    numbered = (plain.with_name(f"{plain.name}-{n}") for n in itertools.count(2))
    return next(folder for folder in numbered if not folder.exists())
