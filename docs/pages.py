"""Write the pages of the site that the code knows better: API, commands, zoo.

They go into docs/pages/, which git ignores; docs/conf.py calls this on each build.
"""

import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from inspect import cleandoc
from pathlib import Path

import click

import fewshot_automl
from fewshot_automl.backbones.card import Card, PackageSource
from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.cli.entry import app
from fewshot_automl.evaluation.measures import MEASURES
from fewshot_automl.modalities import MODALITIES


def write_pages(to: Path) -> None:
    """Write all of them into a folder, in place of what is there."""
    made = {f"api/{name}.rst": api(name) for name in rooms()}
    made["zoo.md"] = "\n".join(zoo())
    context = click.Context(app, info_name="fewshot")
    for name in app.list_commands(context):
        command = app.get_command(context, name)
        assert command is not None
        lines = command_page(command, context, name, "#")
        made[f"commands/{name}.md"] = "\n".join(lines)
    for old in to.rglob("*.*"):
        if old.relative_to(to).as_posix() not in made:
            old.unlink()
    for name, text in made.items():
        page = to / name
        page.parent.mkdir(parents=True, exist_ok=True)
        if (
            not page.exists() or page.read_text("utf-8") != text
        ):  # else it is up to date
            page.write_text(text, "utf-8")


def rooms() -> list[str]:
    """Return the names of the packages and modules right below ours."""
    found = pkgutil.iter_modules(fewshot_automl.__path__)
    return [row.name for row in found if row.name not in ("__main__", "cli")]


def api(room: str) -> str:
    """Return the page of one room: what each of its modules has."""
    whole = f"fewshot_automl.{room}"
    module = import_module(whole)
    names = [whole]
    if hasattr(module, "__path__"):
        below = pkgutil.walk_packages(module.__path__, f"{whole}.")
        names += [row.name for row in below]
    parts = [f"{room}\n{'=' * len(room)}\n"]
    for name in names:
        title = f"``{name}``\n{'-' * (len(name) + 4)}\n\n" if name != whole else ""
        parts.append(f"{title}.. automodule:: {name}\n")
    return "\n".join(parts)


def command_page(
    command: click.Command, above: click.Context, name: str, level: str
) -> Iterator[str]:
    """Yield the lines about a command, and about those below it."""
    context = click.Context(command, parent=above, info_name=name)
    yield f"{level} {context.command_path.removeprefix('fewshot ')}\n"
    words = " ".join(command.collect_usage_pieces(context))
    yield f"```\n{context.command_path} {words}\n```\n"
    for part in cleandoc(command.help or "").split("\n\n"):
        head, *lines = part.split("\n")
        if head.strip() != "\b":
            yield f"{escaped(part)}\n"
            continue
        title, *examples = lines
        yield f"{title.strip()}\n"
        yield "```\n" + "\n".join(line.strip() for line in examples) + "\n```\n"
    options = [x for x in command.get_params(context) if isinstance(x, click.Option)]
    records = [each.get_help_record(context) for each in options]
    if rows := [row for row in records if row is not None]:
        yield "| Option | Meaning |\n| --- | --- |"
        for words, meaning in rows:
            yield f"| `{words}` | {escaped(meaning)} |"
        yield ""
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            one = command.get_command(context, inner)
            assert one is not None
            yield from command_page(one, context, inner, f"{level}#")


def escaped(text: str) -> str:
    """Return help as Markdown that shows it as it is."""
    return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", text)


def zoo() -> Iterator[str]:
    """Yield the lines about all backbones that come with the package."""
    yield "# The zoo\n"
    yield (
        "The backbones that come with a card, the best first; `fewshot zoo` prints "
        "them with what is at hand, `fewshot zoo show ID` all that is known about one."
    )
    shipped = Zoo.shipped()
    for modality, row in MODALITIES.items():
        cards = shipped.cards(modality)
        yield f"\n## For {row.plural}\n"
        yield "| Backbone | Parameters | FLOPs | Licence | Weights | Pretraining |"
        yield "| --- | ---: | ---: | --- | --- | --- |"
        yield from map(card_row, cards)


def card_row(card: Card) -> str:
    """Return the row of a table about one backbone."""
    embedded = any(isinstance(source, PackageSource) for source in card.sources)
    paper = card.paper or ""
    if number := re.match(r"arXiv:([\w.]+)", paper):
        paper = f" ([paper](https://arxiv.org/abs/{number[1]}))"
    cells = (
        f"`{card.id}`{' (default)' if card.is_default else ''}",
        MEASURES["parameters"].format(float(card.parameters)),
        MEASURES["flops"].format(float(card.flops)),
        escaped(card.license),
        "in a package" if embedded else "from a hub",
        f"{escaped(card.pretraining or '')}{paper}",
    )
    return f"| {' | '.join(cells)} |"
