"""The command ``space``: what a fit would search."""

from typing import TYPE_CHECKING, Any

import click

from fewshot_automl.cli.commands import ListCommand
from fewshot_automl.cli.options import json_option, search_options
from fewshot_automl.cli.session import people, print_json

if TYPE_CHECKING:
    from fewshot_automl.backbones.card import Card
    from fewshot_automl.space import Dimension, Space


@click.command("space", cls=ListCommand)
@click.argument("data")
@search_options
@json_option
def space(
    data: str,
    target: str | None,
    text: str | None,
    image: str | None,
    modality: str | None,
    backbones: tuple[str, ...] | None,
    methods: tuple[str, ...] | None,
    is_json: bool,
) -> None:
    """Print every dimension that a fit of DATA would search.

    Examples:
      fewshot space reviews.csv --target sentiment
      fewshot space photos/ --methods probe lora --json
    """
    import numpy as np

    from fewshot_automl.adaptation.method import Profile
    from fewshot_automl.data import read
    from fewshot_automl.trial.design import space_for

    dataset = read(
        data,
        target=target,
        inputs={
            name: column
            for name, column in (("text", text), ("image", image))
            if column is not None
        },
        modality=modality,
    )
    labels = dataset.examples.labelled().labels
    counts = np.bincount(labels, minlength=dataset.task.classes)
    profile = Profile(task=dataset.task, class_counts=tuple(counts.tolist()))
    cards, note = choose_cards(dataset.task.modality, backbones)
    found = space_for(profile, cards, methods)
    console = people(is_json)
    for sentence in (*dataset.inferred, *note):
        console.print(sentence, markup=False)
    _show(found, console)
    if is_json:
        print_json({"dimensions": found.to_json(), "size": found.size()})


def choose_cards(
    modality: "str", names: tuple[str, ...] | None
) -> tuple[tuple["Card", ...], tuple[str, ...]]:
    """Return the backbones a fit would search, and what to say about them."""
    from fewshot_automl.automl.pantry import named_cards
    from fewshot_automl.backbones.zoo import Zoo

    zoo = Zoo.known()
    if names is not None:
        return tuple(named_cards(zoo, names, modality)), ()
    cards = zoo.cards(modality)
    at_hand = tuple(card for card in cards if zoo.is_at_hand(card))
    if at_hand:
        return at_hand, (f"Backbones: the {len(at_hand)} at hand of {len(cards)}.",)
    return cards, (
        f"No weights are at hand, so all {len(cards)} backbones for {modality} are "
        "shown; a fit fetches the default one. Others: fewshot zoo get ID",
    )


def _show(found: "Space", console: Any) -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("dimension", no_wrap=True, style="bold")
    table.add_column("values", overflow="fold", ratio=3)
    table.add_column("default", no_wrap=True)
    table.add_column("used by", overflow="fold", ratio=2, style="dim")
    methods = found["method"].describe().split(", ") if "method" in found else []
    for dimension in found.dimensions:
        default = dimension.default
        table.add_row(
            dimension.name,
            dimension.describe(),
            f"{default:g}" if isinstance(default, float) else str(default or ""),
            _users(dimension, methods),
        )
    console.print()
    console.print(table)


def _users(dimension: "Dimension", methods: list[str]) -> str:
    """Return for which values of other dimensions a dimension counts."""
    told = []
    for when in dimension.when:
        if when.dimension != "method":
            told.append(f"{when.dimension}: {', '.join(when.values)}")
            continue
        absent = [name for name in methods if name not in when.values]
        short = len(absent) < len(when.values) and len(methods) > 3
        if short and absent:
            told.append(f"all but {', '.join(absent)}")
        else:
            told.append(", ".join(when.values))
    return "; ".join(told)
