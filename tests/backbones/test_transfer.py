"""Real weights know something: they beat their own architecture at random."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from fewshot_automl.backbones import weights
from fewshot_automl.backbones.card import read_card
from fewshot_automl.backbones.load import load

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
TEXT_DATA, IMAGE_DATA = DATA / "subj", DATA / "caltech20"
SHOTS = {"text": 8, "image": 4}
TESTED = {"text": 40, "image": 5}  # a class
FLOOR = {"text": 0.7, "image": 0.7}  # chance is 0.5 and 0.125
QUICK = {"minilm-l3", "minilm-l6", "mobilenetv2-100", "resnet18", "tiny-vit-5m"}


def _parameters():
    for path in sorted((ROOT / "zoo").glob("*/*.toml")):
        card = read_card(path)
        is_embedded = any(hasattr(source, "format") for source in card.sources)
        if is_embedded:
            marks = [] if card.id in QUICK else [pytest.mark.slow]
            yield pytest.param(path, id=card.id, marks=marks)


def _texts(split, count):
    with (TEXT_DATA / f"{split}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = sorted({row["label"] for row in rows})
    return [
        (row["text"], label)
        for label in labels
        for row in [row for row in rows if row["label"] == label][:count]
    ]


def _images(split, count):
    return [
        (path, folder.name)
        for folder in sorted((IMAGE_DATA / split).iterdir())[:8]
        for path in sorted(folder.glob("*.jpg"))[:count]
    ]


def _accuracy(backbone, train, test):
    def vectors(examples):
        rows = backbone.preprocess([example for example, _ in examples])
        found = []
        with torch.no_grad():
            for start in range(0, len(rows), 16):
                batch = backbone.collate(rows[start : start + 16])
                found.append(backbone.features(batch).numpy())
        return np.concatenate(found)

    scaler = StandardScaler()
    head = LogisticRegression(C=0.1, max_iter=1000)
    head.fit(scaler.fit_transform(vectors(train)), [label for _, label in train])
    return head.score(scaler.transform(vectors(test)), [label for _, label in test])


@pytest.mark.parametrize("path", list(_parameters()))
def test_features_beat_a_random_twin(path, random_weights):
    card = read_card(path)
    if not weights.is_at_hand(card):
        pytest.skip(f"weights of {card.id} are not at hand")
    folder, read = (
        (TEXT_DATA, _texts) if card.modality == "text" else (IMAGE_DATA, _images)
    )
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    train = read("train", SHOTS[card.modality])
    test = read("test", TESTED[card.modality])
    located = weights.locate(card)
    tokenizer = located.folder / "tokenizer.json"
    twin = random_weights(
        card, tokenizer=tokenizer.read_text("utf-8") if tokenizer.exists() else None
    )
    learnt = _accuracy(load(card, located), train, test)
    random = _accuracy(load(card, twin), train, test)
    assert learnt >= random + 0.1
    assert learnt >= FLOOR[card.modality]
