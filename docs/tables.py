"""Write the tables of docs/reference.md and hardware.md that the code knows better.

Each stands between two comments that name it. A test compares them with the code.

Example:
    python docs/tables.py
"""

import re
from collections.abc import Iterator
from pathlib import Path

import click
from machines import machines

from fewshot_automl.adaptation.method import Profile
from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.automl.settings import Settings, options
from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.cli.entry import app
from fewshot_automl.cli.space import users
from fewshot_automl.evaluation.measures import MEASURES
from fewshot_automl.modalities import MODALITIES
from fewshot_automl.space import Choice
from fewshot_automl.tasks import TASK_KINDS, Task
from fewshot_automl.trial.space import space_for

DOCS = Path(__file__).parent


def settings() -> Iterator[tuple[str, ...]]:
    """Yield how each setting is spelt everywhere, and what it means."""
    yield (
        "`fewshot fit`",
        "`fit(...)`",
        "`Settings`, `study.json`",
        "Default",
        "Meaning",
    )
    default = Settings()
    for name, row in options().items():
        spelt = row.name or name
        flag = f"`--{spelt.replace('_', '-')}`"
        if row.kind == "limits":
            flag = ", ".join(
                f"`--{measure.limit.replace('_', '-')}`"
                for measure in MEASURES.values()
            )
        if row.kind == "columns":
            flag = ", ".join(f"`--{modality}`" for modality in MODALITIES)
        value = getattr(default, name)
        help = re.sub(r"\s*Default: [^.]*\.", "", row.help)
        yield flag, f"`{spelt}`", f"`{name}`", f"`{value!r}`", help


def commands() -> Iterator[tuple[str, ...]]:
    """Yield each command but ``fit``, its arguments and options."""
    yield "Command", "Options"
    context = click.Context(app)
    fit = app.get_command(context, "fit")
    assert fit is not None
    of_fit = {param.opts[0] for param in fit.params} - {"--json"}
    for name in app.list_commands(context):
        command = app.get_command(context, name)
        inner = command.commands.items() if isinstance(command, click.Group) else ()
        for path, one in ((name, command), *((f"{name} {n}", c) for n, c in inner)):
            if path == "fit" or (isinstance(one, click.Group) and path != "zoo"):
                continue
            words = [
                param.make_metavar(context)
                for param in one.params
                if isinstance(param, click.Argument)
            ]
            own = [p.opts[0] for p in one.params if isinstance(p, click.Option)]
            flags = [f"`{flag}`" for flag in own]
            if path == "plan":
                flags = [f"`{flag}`" for flag in own if flag not in of_fit]
                flags.append("those of `fewshot fit`")
            yield f"`{' '.join(['fewshot', path, *words])}`", ", ".join(flags)


def metrics() -> Iterator[tuple[str, ...]]:
    """Yield each metric."""
    yield "Target", "Metric", "Better", "Meaning"
    for kind in TASK_KINDS.values():
        for row in kind.metrics.values():
            better = "greater" if row.direction == "maximize" else "smaller"
            yield kind.name, f"`{row.name}`", better, row.description


def measures() -> Iterator[tuple[str, ...]]:
    """Yield each measure with its limit."""
    yield "Measure", "Limit", "Better", "Meaning"
    for row in MEASURES.values():
        better = "greater" if row.is_maximised else "smaller"
        yield f"`{row.name}`", f"`{row.limit}`", better, row.meaning


def methods() -> Iterator[tuple[str, ...]]:
    """Yield each method."""
    yield "Method", "Name in the report", "What it does"
    for name, row in METHODS.items():
        yield f"`{name}`", row.title, row.meaning


def dimensions() -> Iterator[tuple[str, ...]]:
    """Yield each dimension of a task of three unequal classes."""
    yield "Dimension", "Range", "Default", "Active for"
    known = {}
    for modality in MODALITIES:
        task = Task(modality=modality, names=("a", "b", "c"))
        profile = Profile(task=task, strata=(20, 10, 8))
        space = space_for(profile, Zoo.shipped().cards(modality))
        names = space["method"].describe().split(", ")
        known = {row.name: (row, names) for row in space.dimensions} | known
    for name, (row, names) in known.items():
        is_long = name in ("method", "backbone")
        values = "those that are searched" if is_long else row.describe()
        default = row.default
        if default is None and isinstance(row, Choice):
            default = "the first" if is_long else row.options[0]
        yield f"`{name}`", values, f"{default}", users(row, names) or "always"


TABLES = {
    "reference.md": (settings, commands, metrics, measures, methods, dimensions),
    "hardware.md": (machines,),
}


def renewed(name: str) -> str:
    """Return a page with its tables written again."""
    page = (DOCS / name).read_text("utf-8")
    for table in TABLES[name]:
        head, *rows = table()
        lines = [head, ("---",) * len(head), *rows]
        text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        of = table.__name__
        begin, end = f"<!-- {of}: by docs/tables.py -->", f"<!-- end of {of} -->"
        if begin not in page or end not in page:
            raise SystemExit(f"{name} must have {begin} and {end}.")
        before, rest = page.split(begin, 1)
        page = f"{before}{begin}\n{text}\n{end}{rest.split(end, 1)[1]}"
    return page


if __name__ == "__main__":
    for each in TABLES:
        (DOCS / each).write_text(renewed(each), "utf-8")
