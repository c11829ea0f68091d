"""A user's home: a zoo of one tiny backbone, and labelled texts."""

import csv
import json
import shutil
from pathlib import Path

import pytest

TINY = Path(__file__).parents[1] / "zoo"
GOOD = ("a good film", "the good river", "good was the city", "a good name is good")
BAD = ("a bad film", "the bad river", "bad was the city", "a bad name is bad")


@pytest.fixture(scope="module")
def home(tmp_path_factory, tiny_cards, random_weights):
    home = tmp_path_factory.mktemp("home")
    (home / "zoo").mkdir()
    shutil.copy(TINY / "text" / "tiny-bert.toml", home / "zoo")
    (home / "zoo" / "tiny-bert").symlink_to(random_weights(tiny_cards["tiny-bert"]))
    rows = [
        {"id": str(i), "review": f"{text} {word}", "stars": stars}
        for i, word in enumerate(("what", "who", "when"))
        for stars, texts in (("good", GOOD), ("bad", BAD))
        for text in texts
    ]
    for name, part in (("reviews.csv", rows[:16]), ("new.csv", rows[16:])):
        with (home / name).open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, ["id", "review", "stars"])
            writer.writeheader()
            writer.writerows(part)
    return home


@pytest.fixture
def at_home(home, monkeypatch):
    go_home(home, monkeypatch)


def go_home(home, patch):
    patch.chdir(home)
    patch.setenv("FEWSHOT_ZOO_PATH", str(home / "zoo"))
    patch.setenv("FEWSHOT_CACHE", str(home / "cache"))
    patch.setenv("COLUMNS", "120")


@pytest.fixture
def own_places(tmp_path, monkeypatch):
    """Let a test have an empty zoo and cache of its own."""
    (tmp_path / "zoo").mkdir()
    monkeypatch.setenv("FEWSHOT_ZOO_PATH", str(tmp_path / "zoo"))
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def no_index(monkeypatch):
    """Let pip find nothing, at once and without a network."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


@pytest.fixture
def last_json(capsys):
    """Return the object in the last line of stdout, and what people saw."""

    def read():
        out, err = capsys.readouterr()
        return json.loads(out.splitlines()[-1]), err

    return read
