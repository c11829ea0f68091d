"""Failures that were planted in real texts are found, and mended."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fewshot_automl import Predictor, UserError, fit, repair, slices, update
from fewshot_automl.automl.finished import Versions
from fewshot_automl.cli.entry import run

PLACES = (home / "shared" / "data" for home in Path(__file__).resolve().parents)
DATA = next(filter(Path.is_dir, PLACES), Path("shared/data"))
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="needs shared/data")


def drawn(part, counts, name="clickbait"):
    rows = pd.read_csv(DATA / name / f"{part}.csv").drop_duplicates("text")
    rows = rows.sample(frac=1, random_state=0)
    most = rows["label"].map(counts)
    rows = rows[rows.groupby("label").cumcount() < most]
    return rows.sample(frac=1, random_state=1).reset_index(drop=True)


def with_channel(rows, rare):
    chance = np.random.default_rng(0).random(len(rows))
    is_phone = chance < np.where(rows["label"] == rare, 0.8, 0.03)
    return rows.assign(channel=np.where(is_phone, "phone", "web"))


def fitted(rows, folder, **about):
    folder.mkdir()
    rows.to_csv(folder / "data.csv", index=False)
    about = {"methods": ["tfidf"], "budget": "none", "trials": 1, **about}
    fit(folder / "data.csv", target="label", out=folder / "study", **about)
    return folder / "study"


def named(found, name):
    return next(one for one in found.slices if one.name == name)


@pytest.fixture(scope="module")
def rare(tmp_path_factory, at_home):
    """A study where one class is rare, and most of it comes by phone."""
    rows = with_channel(drawn("train", {"clickbait": 30, "news": 240}), "clickbait")
    return fitted(rows, tmp_path_factory.mktemp("slices") / "rare")


@pytest.fixture(scope="module")
def flipped(tmp_path_factory, at_home):
    """A study where one annotator mixes up two classes."""
    rows = drawn("train", {"clickbait": 110, "news": 110})
    who = np.random.default_rng(0).choice(list("ABCD"), len(rows))
    other = rows["label"].map({"news": "clickbait", "clickbait": "news"})
    rows = rows.assign(annotator=who, label=rows["label"].where(who != "B", other))
    return fitted(rows, tmp_path_factory.mktemp("slices") / "flipped")


def share_right(folder, rows):
    answers = np.array(Predictor.load(folder).predict(rows[["text"]]))
    return float((answers == rows["label"]).mean())


def test_a_rare_class_and_a_metadata_group_are_found_and_mended(rare):
    found = slices(rare)
    assert [one.number for one in found.slices] == [*range(1, len(found.slices) + 1)]
    assert named(found, "class clickbait").is_worse
    group = named(found, "channel = phone")
    assert group.is_worse
    assert group.low <= group.rate <= group.high
    assert group.rest < group.low
    assert len(group.rows) == group.examples
    assert not named(found, "class news").is_worse
    test = with_channel(drawn("test", {"clickbait": 200, "news": 200}), "clickbait")
    is_phone = test["channel"] == "phone"
    parts = test[is_phone], test[~is_phone]
    before = [share_right(rare, part) for part in parts]
    old = (rare / "result.json").read_bytes()
    mended = repair(rare, slice=group.number, margin=0.05)
    assert mended.version == 2
    assert mended.fixed > mended.broken
    assert mended.rest_low >= -0.05
    assert mended.before == pytest.approx(1 - group.rate)
    model, score = mended.result.predictor, mended.result.summary["score"]
    assert model.facts["score"] == score
    assert score["raw"] == pytest.approx(mended.changes[0].after, abs=1e-6)
    now = [share_right(rare, part) for part in parts]
    assert now[0] > before[0] + 0.2
    assert now[1] > before[1] - 0.05
    assert (rare / "result.json").read_bytes() == old
    row = Versions.of(rare).rows[1]
    assert (row.parent, "channel = phone" in row.said) == (1, True)
    assert (rare / "versions" / "2" / "report.html").exists()
    after = named(slices(rare), "channel = phone")  # of the current version
    assert after.rate < group.rate
    Versions.of(rare).going_to(1).write(rare)
    assert [share_right(rare, part) for part in parts] == before


def test_flipped_labels_are_named_and_mended_by_labels(flipped, tmp_path, capsys):
    found = slices(flipped)
    assert found.slices[0].name == "annotator = B"
    assert found.slices[0].is_worse
    rows = pd.read_csv(flipped.parent / "data.csv")
    is_flipped = dict(zip(rows["text"], rows["annotator"] == "B", strict=True))
    caught = [is_flipped[one.example] for one in found.suspects]
    assert np.mean(caught) > 0.6
    assert sum(caught) > 0.5 * sum(is_flipped.values())
    place = tmp_path / "wrong.csv"
    assert run(["slices", str(flipped), "--suspects", str(place), "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["slices"][0]["is_worse"]
    assert len(said["suspects"]) == len(found.suspects)
    # What is tried without labels is judged by labels that are wrong: it cannot help.
    assert run(["repair", str(flipped), "--slice", "1"]) == 3
    assert "may be wrong" in " ".join(capsys.readouterr().out.split())
    assert not (flipped / "versions.json").exists()
    test = drawn("test", {"clickbait": 200, "news": 200})
    before = share_right(flipped, test)
    update(flipped, place)
    assert f"{len(found.suspects)} corrected" in Versions.of(flipped).rows[1].said
    assert share_right(flipped, test) > before
    given = slices(flipped, data=flipped.parent / "data.csv")
    assert any(one.name == "annotator = B" for one in given.slices)


def test_given_examples_are_a_slice(rare, tmp_path):
    rows = pd.read_csv(rare.parent / "data.csv")
    some = rows[rows["label"] == "clickbait"]
    some.to_csv(tmp_path / "some.csv", index=False)
    tried = repair(rare, examples=tmp_path / "some.csv", margin=1e-6)
    assert tried.examples == len(some)
    assert tried.version is None
    new = pd.DataFrame({"text": ["never seen"]})
    with pytest.raises(UserError, match="among those of the fit"):
        repair(rare, examples=new)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "one of the two"),
        ({"slice": 0}, "Slice must be from 1"),
        ({"slice": 1, "examples": ["a"]}, "one of the two"),
        ({"slice": 1, "margin": 0.0}, "margin must be above 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(rare, asked, words):
    with pytest.raises(UserError, match=words):
        repair(rare, **asked)


def test_images_in_the_wrong_folder_are_suspects(tmp_path, at_home):
    chance = np.random.default_rng(0)
    for place in range(40):
        pixels = chance.integers(0, 60, (40, 36, 3), dtype=np.uint8)
        pixels[..., place % 2] += 150
        is_wrong = place in (4, 11)
        kind = ("red", "green")[(place + is_wrong) % 2]
        (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "data" / kind / f"{place}.png")
    about = {"budget": "none", "trials": 1, "methods": ["prototype"]}
    fit(tmp_path / "data", out=tmp_path / "study", **about)
    found = slices(tmp_path / "study")
    assert {one.example.name for one in found.suspects} == {"4.png", "11.png"}
    names = [one.name for one in found.slices if one.name.startswith("like ")]
    assert names
    assert all(re.match(r"like (red|green)/\d+\.png", name) for name in names)
    file = tmp_path / "wrong.csv"
    assert run(["slices", str(tmp_path / "study"), "--suspects", str(file)]) == 0
    result = update(tmp_path / "study", file)
    assert "2 corrected labels" in Versions.of(tmp_path / "study").rows[1].said
    assert result.score.raw == 1.0
