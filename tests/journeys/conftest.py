"""Commands of ours as their own processes, on a few texts and a tiny backbone."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORDS = ("river", "city", "where", "who", "name", "how", "what", "film")


@pytest.fixture
def home(tmp_path, tiny_cards, random_weights):
    """A folder with a zoo of one tiny backbone and labelled texts."""
    (tmp_path / "zoo").mkdir()
    shutil.copy(ROOT / "tests" / "zoo" / "text" / "tiny-bert.toml", tmp_path / "zoo")
    weights = random_weights(tiny_cards["tiny-bert"])
    (tmp_path / "zoo" / "tiny-bert").symlink_to(weights)
    with (tmp_path / "train.csv").open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["text", "label"])
        for n, word in enumerate(WORDS):
            rows.writerow([f"a good {word} {'is ' * n}", "good"])
            rows.writerow([f"the bad {word} {'is ' * n}", "bad"])
    return tmp_path


@pytest.fixture
def places(home):
    """The variables that name what is in `home`, for any process."""
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return {
        **os.environ,
        "FEWSHOT_ZOO_PATH": str(home / "zoo"),
        "FEWSHOT_CACHE": str(home / "cache"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), *known])),
    }


@pytest.fixture
def start(home, places):
    """Return what starts a command of ours there; its words go to `said.txt`."""

    def start(*words: str, **variables: str) -> subprocess.Popen:
        with (home / "said.txt").open("ab") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "fewshot_automl", *words],
                env={**places, **variables},
                cwd=home,
                stdout=said,
                stderr=said,
            )

    return start


@pytest.fixture(scope="session")
def trials_of():
    """Return the rows that the record of a fit's folder holds."""
    from fewshot_automl.automl.record import read_record, settings_of
    from fewshot_automl.ledger import Ledger
    from fewshot_automl.space import Space

    def trials_of(folder):
        if not (folder / "study.json").exists():
            return []
        settings, name = settings_of(folder), read_record(folder)["name"]
        study = settings.study or name
        try:  # to read needs no space: what was recorded is what was tried
            ledger = Ledger.open(
                settings.storage or folder, study=study, space=Space(()), folder=folder
            )
            return ledger.history()
        except FileNotFoundError:
            return []

    return trials_of
