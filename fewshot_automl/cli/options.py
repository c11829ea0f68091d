"""Options of commands; those of a study derive from the fields of `Settings`."""

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import pandas as pd

from fewshot_automl.automl.settings import LIMITS, Group, Option, Settings, options
from fewshot_automl.errors import UserError
from fewshot_automl.evaluation.measures import Measure
from fewshot_automl.modalities import MODALITIES
from fewshot_automl.space import Value
from fewshot_automl.study import parse_budget
from fewshot_automl.tasks.costs import ARROW

SIZES: Final = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
"""What a letter behind a number multiplies it by."""
NO_LIMIT: Final = "none"
FOLDER: Final = click.Path(exists=True, file_okay=False, path_type=Path)
"""Type of an argument that is a folder there is."""
Function = TypeVar("Function", bound=Callable[..., Any])

data_option: Final = click.option(
    "--data", metavar="DATA", help="The fit's data, if they have moved."
)
json_option: Final = click.option(
    "--json",
    "is_json",
    is_flag=True,
    help="Print one JSON object as the last line of stdout, the rest to stderr.",
)


def setting_options(*groups: Group) -> Callable[[Function], Function]:
    """Add an option for each field of `Settings`, or for those of some groups."""

    def decorate(function: Function) -> Function:
        made = [_made_of(name, row) for name, row in options(*groups).items()]
        for option in reversed([one for several in made for one in several]):
            function = option(function)
        return function

    return decorate


def settings_of_words(values: Mapping[str, Any]) -> Settings:
    """Return the settings that the values of `setting_options` mean.

    A value of None, and an empty list, leaves a field at its default.
    """
    known = {name: value for name, value in values.items() if value is not None}
    given = {name: known[name] for name in options() if name in known}
    if given.get("budget_seconds") == NO_LIMIT:
        given["budget_seconds"] = None
    return Settings(
        **given,
        inputs={name: known[name] for name in MODALITIES if name in known},
        limits={name: known[name] for name in LIMITS if name in known},
    )


def _made_of(name: str, row: Option) -> list[Callable[[Function], Function]]:
    flag, help = f"--{(row.name or name).replace('_', '-')}", row.help
    more: dict[str, Any] = {"metavar": row.metavar}
    if allowed := tuple(row.allowed()):
        more["metavar"] = row.metavar or "NAME"
        help += f" One of {', '.join(allowed)}."
    match row.kind:
        case "limits":
            return [_limit_option(measure) for measure in LIMITS.values()]
        case "columns":
            about = "Column of the examples, if they are {}. Default: inferred."
            return [
                click.option(f"--{name}", metavar="COL", help=about.format(row.plural))
                for name, row in MODALITIES.items()
            ]
        case "names":
            more |= {"multiple": True, "callback": names}
        case "ranges":
            more |= {"multiple": True, "callback": ranges}
        case "texts":
            more |= {"multiple": True, "callback": texts}
        case "shares":
            more |= {"multiple": True, "callback": shares}
        case "costs":
            more |= {"multiple": True, "callback": costs}
        case "number":
            more["type"] = float
        case "count":
            more["type"] = click.IntRange(min=row.least)
        case "time":
            more["callback"] = seconds
        case "flag":
            more["is_flag"] = True
    return [click.option(flag, name, help=help, **more)]


def _limit_option(measure: Measure) -> Callable[[Function], Function]:
    flag = f"--{measure.limit.replace('_', '-')}"
    if measure.is_maximised:
        return click.option(
            flag,
            type=click.FloatRange(0, 1),
            metavar="SHARE",
            help=f"Limit: {measure.meaning}; at least so much.",
        )
    return click.option(
        flag,
        callback=amount,
        metavar=measure.unit.upper() or "N",
        help=f"Limit: {measure.meaning}; at most so much, as in 20, 5M, 5e6.",
    )


def names(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...] | None:
    """Return the names in comma-separated values; None if there were none."""
    found = (name.strip() for value in values for name in value.split(","))
    return tuple(dict.fromkeys(filter(None, found))) or None


def ranges(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, tuple[Value, ...]]:
    """Return options or two ends by dimension, as in ``rank=4,16``."""
    found = {}
    for word in values:
        name, _, ends = word.partition("=")
        if not (name and ends):
            raise click.BadParameter(f"must be as in rank=4,16, got {word!r}.")
        found[name] = tuple(map(_value, ends.split(",")))
    return found


def texts(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """Return a text for each name, as in ``ABBR=an abbreviation``."""
    pairs = [word.partition("=") for word in values]
    for name, _, text in pairs:
        if not (name and text.strip()):
            raise click.BadParameter(f"must be as in CLASS=TEXT, got {name!r}.")
    return {name: text for name, _, text in pairs}


def shares(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, float]:
    """Return a share for each name, as in ``spam=0.02``."""
    return {n: _number(share, n) for n, share in texts(ctx, param, values).items()}


def costs(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, float]:
    """Return a cost for each mistake, as in ``ham->spam:5``, or of a file of them."""
    found: dict[str, float] = {}
    for word in values:
        if Path(word).is_file():
            found |= _costs_of_file(Path(word))
            continue
        pair, _, cost = word.rpartition(":")
        if ARROW not in pair:
            raise click.BadParameter(
                f'must be as in "ham{ARROW}spam:5" or a file, got {word!r}.'
            )
        found[pair] = _number(cost, pair)
    return found


def _costs_of_file(path: Path) -> dict[str, float]:
    try:
        if path.suffix.lower() == ".json":
            rows = json.loads(path.read_text("utf-8"))
        else:
            table = pd.read_csv(path, dtype=str, index_col=0, keep_default_na=False)
            rows = table.to_dict("index")
        cells = [(t, a, cell) for t, row in rows.items() for a, cell in row.items()]
    except (ValueError, AttributeError, OSError) as error:
        raise click.BadParameter(
            f"must be a table of costs, a row a true class and a column an answer, got "
            f"{path} ({error})."
        ) from error
    return {
        f"{true}{ARROW}{answer}": _number(cell, f"row {true}, column {answer}, {path}")
        for true, answer, cell in cells
        if true != answer
    }


def _number(word: object, of: str) -> float:
    try:
        return float(str(word))
    except ValueError as error:
        raise click.BadParameter(f"must be a number for {of}, got {word!r}.") from error


def _value(word: str) -> Value:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def seconds(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> float | str | None:
    """Return the seconds that a word such as 5min means, or `NO_LIMIT`."""
    return value if value in (None, NO_LIMIT) else parse_budget(value)


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


def check_folder_of(out: Path) -> None:
    """Check, before any work, that a file can be written there."""
    folder = out.absolute().parent
    if not folder.is_dir() or not os.access(out if out.exists() else folder, os.W_OK):
        raise UserError(
            "--out must be in a folder that exists and be a file that can be written, "
            f"got '{out}'. Make the folder, or choose another."
        )
