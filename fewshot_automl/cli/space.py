"""The command ``space``: what a fit would search."""

from dataclasses import replace
from typing import Any

import click

from fewshot_automl.automl.fit import read_as_asked
from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.cli.console import people, print_json, table
from fewshot_automl.cli.options import json_option, setting_options, settings_of_words
from fewshot_automl.space import Dimension


@click.command("space")
@click.argument("data")
@setting_options("data", "space")
@json_option
def space(data: str, is_json: bool, **chosen: Any) -> None:
    """Print every dimension that a fit of DATA would search.

    \b
    Examples:
      fewshot space reviews.csv --target sentiment
      fewshot space photos/ --methods probe,lora --json
    """
    asked = settings_of_words(chosen)
    dataset = read_as_asked(data, asked)
    from fewshot_automl.adaptation.method import Profile
    from fewshot_automl.automl.available import named_cards, texts_cut
    from fewshot_automl.trial.space import space_for

    labelled = dataset.examples.labelled(dataset.task)
    console = people(is_json)
    for sentence in dataset.inferred:
        console.print(sentence, markup=False)
    zoo, modality = Zoo.known(), dataset.task.modality
    if asked.backbones is not None:
        cards = tuple(named_cards(zoo, asked.backbones, modality))
    else:
        every = zoo.cards(modality)
        cards = tuple(filter(zoo.is_at_hand, every)) or every
        at_hand = f"{sum(map(zoo.is_at_hand, every))} of {len(every)} at hand"
        console.print(f"Backbones: {at_hand}. Others: fewshot zoo get ID", markup=False)
    _, cut_by = texts_cut(tuple(filter(zoo.is_at_hand, cards)), labelled)
    profile = Profile.of(dataset.task, labelled.targets)
    more = len(dataset.examples) - len(labelled)
    profile = replace(profile, cut_by=cut_by, unlabelled=more)
    found = space_for(profile, cards, asked.methods)
    for name, values in asked.narrow.items():
        found = found.narrow(name, list(values))
    made = table("dimension", "values", "default", "used by")
    methods = found["method"].describe().split(", ") if "method" in found else []
    for dimension in found.dimensions:
        default = dimension.default
        made.add_row(
            dimension.name,
            dimension.describe(),
            f"{default:g}" if isinstance(default, float) else str(default or ""),
            users(dimension, methods),
        )
    console.print()
    console.print(made)
    if is_json:
        print_json({"dimensions": found.to_json(), "size": found.size()})


def users(dimension: Dimension, methods: list[str]) -> str:
    """Return for which values of other dimensions a dimension counts."""
    parts = []
    for when in dimension.when:
        absent = [name for name in methods if name not in when.values]
        if when.dimension != "method":
            parts.append(f"{when.dimension}: {', '.join(when.values)}")
        elif 0 < len(absent) < len(when.values):
            parts.append(f"all but {', '.join(absent)}")
        else:
            parts.append(", ".join(when.values))
    return "; ".join(parts)
