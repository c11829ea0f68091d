"""The Python of README and docs runs, from the top of each page to its end."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sybil.document import Document
from sybil.parsers.markdown import PythonCodeBlockParser

import fewshot_automl
from fewshot_automl.automl import classifier
from fewshot_automl.automl.fit import fit

ROOT = Path(__file__).parents[2]
CODED = [
    page
    for page in sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("*.md")])
    if "```python\n" in page.read_text("utf-8")
]
QUICK = {"benchmarks.md"}  # the others fit models
TEXTS = [f"{opening} {thing}" for thing in ("day", "film", "meal", "trip") * 3
         for opening in ("What a lovely", "What a dreadful")]  # fmt: skip
LABELS = ["good", "bad"] * (len(TEXTS) // 2)


def quick(data, **given):
    """Fit as a page asks, but two trials and half a minute at most."""
    asked = given.pop("settings", None) or fewshot_automl.Settings()
    given.pop("budget", None)
    settings = replace(asked, trials=2, budget_seconds=30.0)
    return fit(data, settings=settings, **given)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Stand where there are the files that the pages name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fewshot_automl, "fit", quick)
    monkeypatch.setattr(classifier, "fit", quick)
    reviews = pd.DataFrame({"review": TEXTS, "sentiment": LABELS})
    reviews.to_csv("reviews.csv", index=False)
    for name in ("train.csv", "test.csv"):  # of the tutorial
        pd.DataFrame({"text": TEXTS, "topic": LABELS}).to_csv(name, index=False)
    return tmp_path


def pictures(home):
    """Leave a model of few pictures, and new ones."""
    for place in ("photos/red", "photos/blue", "new-photos"):
        (home / place).mkdir(parents=True)
        for number in range(6):
            colour = (250 - number, 9, 9) if "red" in place else (9, 9, 250 - number)
            Image.new("RGB", (32, 32), colour).save(home / place / f"{number}.jpg")
    quick("photos", methods=["majority"], out="runs/photos")


def exported(home, monkeypatch):
    """Leave a model of mails, and the folder of an export, in which one then stands."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="ONNX, of the extra `onnx`, is missing")
    pd.DataFrame({"text": TEXTS, "label": LABELS}).to_csv("mails.csv", index=False)
    asked = {"backbones": ["minilm-l6"], "methods": ["probe"], "target": "label"}
    result = quick("mails.csv", out="runs/mail", **asked)
    result.predictor.export("onnx", "exported", "mails.csv")
    monkeypatch.syspath_prepend(home / "exported")


def before(page, home, monkeypatch):
    """Do what a page takes for granted, and return the names that it uses."""
    if page.name == "how-to.md":
        exported(home, monkeypatch)
    if page.name == "tutorial-images.md":
        pictures(home)
    if page.name == "benchmarks.md":
        for name in ("train.csv", "test.csv"):
            table = pd.DataFrame({"input": TEXTS, "label": LABELS})
            table.to_csv(home / name, index=False)
        sys.argv[1:] = ["train.csv", "test.csv", "answers.csv"]
    luck = np.random.default_rng(0)
    return {
        "texts": TEXTS,
        "labels": LABELS,
        "my_cross_validation": lambda config: luck.normal(0.8, 0.05, 5),
    }


@pytest.mark.filterwarnings("ignore::Warning")
@pytest.mark.parametrize(
    "page",
    [pytest.param(x, marks=[pytest.mark.slow] * (x.name not in QUICK)) for x in CODED],
    ids=lambda page: page.stem,
)
def test_the_python_of_a_page_runs(page, home, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["program"])
    document = Document.parse(str(page), PythonCodeBlockParser())
    document.namespace.update(before(page, home, monkeypatch))
    examples = list(document.examples())
    assert len(examples) == page.read_text("utf-8").count("```python\n")
    for example in examples:
        example.evaluate()
    if page.name == "benchmarks.md":
        assert len(pd.read_csv("answers.csv")) == len(TEXTS)
