"""What is imported between typing the command and the end of the first probe."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TINY = Path(__file__).parents[1] / "zoo"
COSTLY = {
    "accelerate",
    "botorch",
    "datasets",
    "gpytorch",
    "pandas",
    "peft",
    "scipy",
    "sklearn",
    "sympy",
    "timm",
    "torch._dynamo",
    "torchvision",
    "transformers",
}
"""None is needed for cheap trials on our default backbones; each takes a fraction of
a second to two. `benchmarks/speed_startup.py` has the times."""
WATCHED = """
import os, sys
from fewshot_automl.cli import display, entry

def listen(self, event):
    if event.kind == "finished" and "backbone" in event.config:
        print(event.outcome.status, event.outcome.reason, *sys.modules, sep="\\n")
        sys.stdout.flush()
        os._exit(0)

display.Display.trial = listen
entry.run(sys.argv[1:])
"""


def texts(home):
    with (home / "texts.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        writer.writerows(
            (f"a {word} film {n}", word) for word in ("good", "bad") for n in range(4)
        )
    return ["texts.csv", "--target", "label"]


def images(home):
    generator = np.random.default_rng(0)
    for name in ("river", "city"):
        (home / "photos" / name).mkdir(parents=True)
        for n in range(4):
            pixels = generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(home / "photos" / name / f"{n}.png")
    return ["photos"]


@pytest.mark.parametrize(
    ("card_id", "write"), [("tiny-bert", texts), ("tiny-mobilenetv2", images)]
)
def test_the_first_probe_imports_nothing_costly(
    card_id, write, tiny_cards, random_weights, tmp_path
):
    card = tiny_cards[card_id]
    zoo = tmp_path / "zoo"
    zoo.mkdir()
    shutil.copy(TINY / card.modality / f"{card_id}.toml", zoo)
    (zoo / card_id).symlink_to(random_weights(card).folder)
    words = ["fit", *write(tmp_path), "--budget", "none", "--trials", "9"]
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *words, "--backbones", card_id],
        cwd=tmp_path,
        env={
            **os.environ,
            "FEWSHOT_ZOO_PATH": str(zoo),
            "FEWSHOT_CACHE": str(tmp_path / "cache"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    status = lines.index("done")
    assert "torch" in lines[status:], done.stderr
    assert COSTLY.isdisjoint(lines[status:])
