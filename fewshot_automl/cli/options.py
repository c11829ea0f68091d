"""Options and arguments that several commands share."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from fewshot_automl.cli.commands import NamesOption

SIZES: Final = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
"""What a letter behind a number multiplies it by."""
Function = TypeVar("Function", bound=Callable[..., Any])


def names(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...] | None:
    """Return the names in comma-separated values; None if there were none."""
    found = tuple(
        name.strip() for value in values for name in value.split(",") if name.strip()
    )
    return tuple(dict.fromkeys(found)) or None


def json_option(function: Function) -> Function:
    """Add ``--json``."""
    return click.option(
        "--json",
        "is_json",
        is_flag=True,
        help="Print one JSON object as the last line of stdout, the rest to stderr.",
    )(function)


def model_argument(function: Function) -> Function:
    """Add MODEL, the folder of a fit or of a saved predictor."""
    return click.argument(
        "model", type=click.Path(exists=True, file_okay=False, path_type=Path)
    )(function)


def search_options(function: Function) -> Function:
    """Add what says which columns to read and what to search."""
    for option in reversed(_SEARCH):
        function = option(function)
    return function


def goal_options(function: Function) -> Function:
    """Add what the model should be good at, and what it must keep."""
    for option in reversed(_GOALS):
        function = option(function)
    return function


def amount(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> float | None:
    """Return the number above 0 that a word means: 5e6, 5M, 1.5k, 12."""
    if value is None:
        return None
    match = re.fullmatch(
        r"([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([kmgbt]?)", value.strip().lower()
    )
    number = float(match[1]) * SIZES[match[2]] if match else 0.0
    if not 0 < number < float("inf"):
        raise click.BadParameter(
            f"must be a number above 0 such as 5M or 5e6, got {value!r}."
        )
    return number


def _objectives() -> list[str]:
    from fewshot_automl.evaluation.measures import MEASURES, SCORE

    return [SCORE, *MEASURES]


_GOALS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--objectives",
        cls=NamesOption,
        table=_objectives,
        multiple=True,
        callback=names,
        metavar="NAME...",
        help="What to improve together; the score always is.",
    ),
    click.option(
        "--max-parameters",
        callback=amount,
        metavar="N",
        help="Most numbers in the model: 5M, 5e6.",
    ),
    click.option(
        "--max-flops",
        callback=amount,
        metavar="N",
        help="Most operations of its backbones for one example: 2G.",
    ),
    click.option(
        "--max-latency-ms",
        callback=amount,
        metavar="MS",
        help="Most milliseconds to predict one example, on this machine.",
    ),
    click.option(
        "--max-memory-mb",
        callback=amount,
        metavar="MB",
        help="Most megabytes of weights.",
    ),
    click.option(
        "--min-worst-recall",
        type=click.FloatRange(0, 1),
        metavar="SHARE",
        help="Least recall of the class that is found least, cross-validated.",
    ),
)

_SEARCH: tuple[Callable[[Any], Any], ...] = (
    click.option("--target", metavar="COL", help="Column of labels (for tables)."),
    click.option("--text", metavar="COL", help="Column of texts. Default: inferred."),
    click.option(
        "--image", metavar="COL", help="Column of images or paths. Default: inferred."
    ),
    click.option(
        "--modality",
        type=click.Choice(["text", "image"]),
        help="What an example is. Default: inferred.",
    ),
    click.option(
        "--backbones",
        multiple=True,
        callback=names,
        metavar="ID...",
        help="Backbones to search. Default: all at hand (see: fewshot zoo).",
    ),
    click.option(
        "--methods",
        multiple=True,
        callback=names,
        metavar="NAME...",
        help="Methods to search. Default: all that fit (see: fewshot space DATA).",
    ),
)
