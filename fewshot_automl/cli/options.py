"""Options and arguments that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

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
