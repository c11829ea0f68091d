"""Real weights on real data: few shots must buy what they are known to buy."""

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from fewshot_automl import fit
from fewshot_automl.backbones.zoo import Zoo

DATA = Path(__file__).parents[3] / "shared" / "data"
SHOTS = 8
TESTED = 200


def weights_or_skip(name):
    zoo = Zoo.shipped()
    if not zoo.is_at_hand(zoo[name]):
        pytest.skip(f"weights of {name} are not at hand: fewshot zoo get {name}")


def table(name, part):
    path = DATA / name / f"{part}.csv"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    with path.open(encoding="utf-8", newline="") as stream:
        return [(row["text"], row["label"]) for row in csv.DictReader(stream)]


def folder(name, part):
    path = DATA / name / part
    if not path.is_dir():
        pytest.skip(f"{path} is not here")
    return [(file, file.parent.name) for file in sorted(path.glob("*/*"))]


def few(pairs, seed=0):
    """Return SHOTS examples of each class."""
    by_class = defaultdict(list)
    for place in np.random.default_rng(seed).permutation(len(pairs)):
        by_class[pairs[place][1]].append(pairs[place])
    return [pair for name in sorted(by_class) for pair in by_class[name][:SHOTS]]


def accuracy(predictor, pairs, seed=0):
    chosen = np.random.default_rng(seed).permutation(len(pairs))[:TESTED]
    found = predictor.predict([pairs[place][0] for place in chosen])
    return np.mean([a == pairs[p][1] for a, p in zip(found, chosen, strict=True)])


@pytest.mark.parametrize(
    ("backbone", "read", "name", "least"),
    [("minilm-l6", table, "subj", 0.70), ("mobilenetv2-100", folder, "flowers5", 0.60)],
)
def test_a_probe_on_eight_shots(backbone, read, name, least, tmp_path):
    weights_or_skip(backbone)
    train = few(read(name, "train"))
    result = fit(
        [example for example, _ in train],
        labels=[label for _, label in train],
        methods=("probe",),
        backbones=(backbone,),
        budget="none",
        trials=3,
        out=tmp_path / "run",
    )
    reached = accuracy(result.predictor, read(name, "test"))
    assert reached > least
    assert result.score.low - 0.05 < reached < result.score.high + 0.05
