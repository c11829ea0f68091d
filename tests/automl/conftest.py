"""A home with tiny backbones, and few labelled texts and images."""

import shutil
from pathlib import Path

import numpy as np
import pytest

TINY = Path(__file__).parents[1] / "zoo"
WORDS = {"film": "good film bad", "place": "river city where", "name": "who name how"}
BACKBONES = {"text": "tiny-bert", "image": "tiny-vit"}


class Notes:
    """A listener that writes all down."""

    def __init__(self):
        self.sentences = []
        self.events = []

    def say(self, sentence):
        self.sentences.append(sentence)

    def trial(self, event):
        self.events.append(event)


@pytest.fixture
def notes():
    return Notes()


@pytest.fixture(scope="session")
def tiny_home(tmp_path_factory, tiny_cards, random_weights):
    home = tmp_path_factory.mktemp("tiny-home")
    for modality, name in BACKBONES.items():
        shutil.copy(TINY / modality / f"{name}.toml", home)
        (home / name).symlink_to(random_weights(tiny_cards[name]))
    return home


@pytest.fixture(autouse=True)
def at_home(tiny_home, tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSHOT_ZOO_PATH", str(tiny_home))
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def texts():
    """Return 18 texts of three classes and their labels."""
    pairs = [
        (f"{word} {'is ' * n}{extra}", label)
        for label, words in WORDS.items()
        for n, extra in enumerate(("a", "the"))
        for word in words.split()
    ]
    return [text for text, _ in pairs], [label for _, label in pairs]


@pytest.fixture
def images():
    """Return 12 noisy pictures of two colours and their labels."""
    chance = np.random.default_rng(0)
    pictures = []
    for place in range(12):
        pixels = chance.integers(0, 60, (40, 36, 3), dtype=np.uint8)
        pixels[..., place % 2] += 150
        pictures.append(pixels)
    return pictures, ["red" if place % 2 == 0 else "green" for place in range(12)]
