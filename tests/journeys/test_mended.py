"""Real encoders: what is planted in real texts and images is found."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fewshot_automl import fit, slices, update
from fewshot_automl.automl.finished import Versions
from fewshot_automl.backbones.zoo import Zoo

PLACES = (home / "shared" / "data" for home in Path(__file__).resolve().parents)
DATA = next(filter(Path.is_dir, PLACES), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(DATA is None, reason="needs shared/data"),
]


def fitted(rows, folder, backbone):
    zoo = Zoo.shipped()
    if not zoo.is_at_hand(zoo[backbone]):
        pytest.skip(
            f"weights of {backbone} are not at hand: fewshot zoo get {backbone}"
        )
    rows.to_csv(folder / "data.csv", index=False)
    about = {"budget": "none", "trials": 2, "methods": ["probe"]}
    about |= {"target": "label", "backbones": [backbone], "out": folder / "study"}
    return fit(folder / "data.csv", **about)


def mixed_up(rows, pair, seed=0):
    """Return rows where annotator B takes two classes for each other."""
    who = np.random.default_rng(seed).choice(list("ABCD"), len(rows))
    other = {pair[0]: pair[1], pair[1]: pair[0]}
    swapped = rows["label"].map(lambda name: other.get(name, name))
    labels = rows["label"].where(who != "B", swapped)
    return rows.assign(annotator=who, true=rows["label"], label=labels)


def texts(part, most):
    rows = pd.read_csv(DATA / "trec6" / f"{part}.csv").drop_duplicates("text")
    rows = rows.sample(frac=1, random_state=0).rename(columns={"text": "input"})
    rows = rows[rows["label"] != "ABBR"]
    return rows[rows.groupby("label").cumcount() < most].reset_index(drop=True)


def images(part, most):
    files = sorted((DATA / "flowers5" / part).glob("*/*.jpg"))
    rows = pd.DataFrame(
        {"input": map(str, files), "label": [f.parent.name for f in files]}
    )
    rows = rows.sample(frac=1, random_state=0)
    return rows[rows.groupby("label").cumcount() < most].reset_index(drop=True)


@pytest.mark.parametrize(
    ("read", "most", "backbone", "pair"),
    [
        (texts, 80, "minilm-l6", ("HUM", "LOC")),
        (images, 40, "mobilenetv2-100", ("roses", "sunflowers")),
    ],
)
def test_two_classes_that_one_annotator_mixes_up(read, most, backbone, pair, tmp_path):
    rows = mixed_up(read("train", most), pair)
    result = fitted(rows.drop(columns="true"), tmp_path, backbone)
    found = slices(result.folder)
    worse = {one.name for one in found.slices if one.is_worse}
    assert "annotator = B" in worse
    true = dict(zip(rows["input"], rows["true"], strict=True))
    given = dict(zip(rows["input"], rows["label"], strict=True))
    flipped = {key for key, name in true.items() if given[key] != name}
    named = {str(one.example) for one in found.suspects}
    assert len(named & flipped) > 0.6 * len(flipped)
    reviewed = rows[rows["input"].isin(named)]  # as a person would correct them
    reviewed = reviewed.assign(label=reviewed["true"])[["input", "label"]]
    test = read("test", 100)
    old = np.mean(np.array(result.predictor.predict(test)) == test["label"])
    new = update(result.folder, reviewed).predictor
    assert np.mean(np.array(new.predict(test)) == test["label"]) > old
    assert Versions.of(result.folder).current == 2
