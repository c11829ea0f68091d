"""A home with tiny backbones, and few labelled texts and images."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from fewshot_automl.automl import search
from fewshot_automl.evaluation import committee
from fewshot_automl.evaluation.folds import choose_folds

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

    def heard(self, words):
        return [said for said in self.sentences if words in said]


@pytest.fixture(scope="session")
def new_notes():
    return Notes


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


@pytest.fixture(scope="module", autouse=True)
def at_home(tiny_home, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWSHOT_ZOO_PATH", str(tiny_home))
        patch.setenv("FEWSHOT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(committee, "MOST_DRAWS", 40)  # enough where nobody learns much
        yield


def choose_few(strata, *, max_repeats, **options):
    return choose_folds(strata, max_repeats=min(max_repeats, 2), **options)


@pytest.fixture(scope="module", autouse=True)
def few_repeats():
    """Repeat folds twice: heads take most of the time under the tests' type checks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "choose_folds", choose_few)
        yield


@pytest.fixture(scope="session")
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
