import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fewshot_automl import Predictor, UserError, fit, resume, retarget, update
from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.adaptation.saved import own_encoder
from fewshot_automl.automl.finished import Versions
from fewshot_automl.automl.settings import Settings
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.ledger import read_outputs
from fewshot_automl.modalities import content_hashes

TEXTS = [f"{word} {n}" for n in range(8) for word in ("good film", "river city")]
LABELS = ["art", "land"] * 8


@pytest.fixture
def study(tmp_path, at_home):
    few = {"budget": "none", "trials": 3, "methods": ["tfidf", "probe"]}
    fit(TEXTS, labels=LABELS, out=tmp_path / "study", **few)
    return tmp_path / "study"


def updated(study, *new, **about):
    return update(study, *new, data=TEXTS, labels=LABELS, **about)


def test_new_and_corrected_labels_make_a_version_that_can_be_left_again(study):
    first = (study / "model" / "model.json").read_bytes()
    members = json.loads((study / "result.json").read_text())["members"]
    new = ["who is this", "what name", TEXTS[0]]
    result = updated(study, new, new_labels=["name", "name", "land"])
    assert result.task.names == ("art", "land", "name")
    assert len(result.inputs) == 18
    # The old winner is tried first.
    assert result.history[0][0].text("method") == members[0]["config"]["method"]
    versions = Versions.of(study)
    assert versions.current == 2
    assert "2 new examples, 1 corrected label" in versions.rows[1].said
    assert versions.rows[1].parent == 1
    assert Predictor.load(study).task.names == ("art", "land", "name")
    versions.going_to(1).write(study)
    assert (study / "model" / "model.json").read_bytes() == first
    assert Versions.of(study).current == 1
    versions.going_to(2).write(study)
    merged = update(study, rename={"name": "land"})  # its labels are in the folder
    assert merged.task.names == ("art", "land")
    assert [row.parent for row in Versions.of(study).rows] == [None, 1, 2]


QUICK = {"steps": (10, 10), "batch_size": (8, 8)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, at_home):
    """A study whose model is one that trains, of classes in an order of their own."""
    home = tmp_path_factory.mktemp("trained")
    rows = pd.DataFrame({"said": TEXTS, "kind": LABELS})
    rows["kind"] = pd.Categorical(rows["kind"], ["land", "art"], ordered=True)
    rows.to_parquet(home / "data.parquet")
    settings = Settings(
        target="kind",
        trials=1,
        budget_seconds=None,
        methods=("partial_freeze",),
        narrow=QUICK,
    )
    fit(home / "data.parquet", settings=settings, out=home / "study")
    return home / "study"


@pytest.mark.parametrize(("budget", "stays"), [(1e-3, True), (1e4, False)])
def test_members_that_train_stay_where_there_is_no_time(
    trained, tmp_path, budget, stays, monkeypatch
):
    study = tmp_path / "study"
    shutil.copytree(trained, study)
    old = json.loads((study / "result.json").read_text())
    encoded = []
    compute = FeatureStore._compute

    def counted(store, group, keys, batches, found):
        if store._disk is not None:  # that of the study, none of a model that is timed
            encoded.extend((group, key) for key in keys)
        compute(store, group, keys, batches, found)

    monkeypatch.setattr(FeatureStore, "_compute", counted)
    more = {
        "said": ["who is this", "a river", TEXTS[0]],
        "kind": ["art", "land", "land"],
    }
    result = update(study, pd.DataFrame(more), budget=budget)
    assert result.task.names == ("land", "art")
    assert len(result.inputs) == 18
    # Of the old examples nothing is encoded again, and of the new ones nothing twice.
    assert {key for _, key in encoded} <= set(content_hashes(more["said"][:2]))
    assert len(encoded) == len({*encoded})
    assert bool(encoded) != stays
    said = Versions.of(study).rows[1].said
    assert ("stays as it is fitted" in said) == stays
    files = [
        {path.stat().st_ino for path in folder.rglob("*.safetensors")}
        for folder in (study / "versions/1/model", study / "versions/2/model")
    ]
    assert (files[0] == files[1]) == stays
    outputs = read_outputs(result.folder / result.summary["predictions"])
    assert np.isfinite(outputs).all(axis=2).any(axis=0).sum() == 18
    if stays:
        config, _ = result.history[0]
        raw = read_outputs(result.folder / f"predictions/{config.key}.safetensors")
        earlier = read_outputs(study / f"predictions/{config.key}.safetensors")
        keys = {key: row for row, key in enumerate(old["keys"])}
        old_model = Predictor.load(study / "versions/1").fitted
        encodings = Encodings(inputs=result.inputs, encoder=own_encoder(old_model))
        said = old_model.outputs(encodings)
        for row, key in enumerate(result.summary["keys"]):
            if key in keys:  # cross-validated, of the old study
                np.testing.assert_array_equal(raw[:, row], earlier[:, keys[key]])
            else:  # what the old model says, which had not learnt from it
                np.testing.assert_allclose(raw[0, row], said[row], atol=1e-5)


def test_a_model_that_trains_follows_the_names_of_classes(trained, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(trained, study)
    result = update(study, rename={"land": "ground"}, budget=1e-3)
    assert result.task.names == ("ground", "art")
    assert "stays as it is fitted" in Versions.of(study).rows[1].said
    assert {*result.predictor.predict(TEXTS)} <= {"ground", "art"}
    assert result.history[0][1].cost_seconds == 0  # no fold was trained again


def test_costs_and_columns_follow_the_names_of_classes(tmp_path, at_home):
    few = {"budget": "none", "trials": 2, "methods": ["tfidf"]}
    rows = pd.DataFrame({"said": TEXTS, "kind": LABELS})
    rows.loc[len(rows)] = ["who is this", "name"]
    rows.loc[len(rows)] = ["what name is it", "name"]
    more = tmp_path / "more.csv"
    pd.DataFrame({"said": ["nobody knows"] * 2}).to_csv(more, index=False)
    rows.to_csv(tmp_path / "data.csv", index=False)
    settings = Settings(
        target="kind",
        cost={"art->land": 5.0, "name->art": 2.0},
        deploy_prevalence={"art": 0.5, "land": 0.3, "name": 0.2},
        unlabelled=str(more),
    )
    study = tmp_path / "study"
    fit(tmp_path / "data.csv", settings=settings, out=study, **few)
    (tmp_path / "data.csv").rename(tmp_path / "moved.csv")
    result = update(
        study,
        rename={"land": "ground"},
        drop=["name"],
        data=tmp_path / "moved.csv",
    )
    assert result.score.metric == "cost"
    assert result.task.names == ("art", "ground")
    assert result.task.costs.matrix == ((0.0, 5.0), (1.0, 0.0))
    assert result.task.costs.ratios == pytest.approx((0.5 / 0.8 / 0.5, 0.3 / 0.8 / 0.5))
    new = pd.DataFrame({"said": ["a good film"]})
    assert Predictor.load(study).predict(new)  # the columns are called as they were
    shutil.move(study, tmp_path / "elsewhere")
    corrected = pd.DataFrame({"said": ["GOOD film 0"], "kind": ["ground"]})
    result = update(tmp_path / "elsewhere", corrected)
    assert len(result.inputs) == 16
    row = Versions.of(tmp_path / "elsewhere").rows[2]
    assert "1 corrected label" in row.said
    assert "new example" not in row.said
    with pytest.raises(UserError, match="later versions"):
        resume(tmp_path / "elsewhere")
    again, _ = retarget(tmp_path / "elsewhere", abstain_cost=0.1)
    assert again.task.names == ("art", "ground")
    assert len(again.inputs) == 16


def test_images_in_files_and_in_memory_are_kept_together(tmp_path, at_home, images):
    pictures, labels = images
    few = {"budget": "none", "trials": 1, "methods": ["prototype"]}
    fit(pictures, labels=labels, out=tmp_path / "study", **few)
    Image.fromarray(255 - pictures[0]).save(tmp_path / "new.png")
    Image.fromarray(pictures[1]).save(tmp_path / "known.png")
    new = [tmp_path / "new.png", tmp_path / "known.png", tmp_path / "none.png"]
    about = {"data": pictures, "labels": labels}
    asked = {"new_labels": ["red", "red", "red"], **about}
    result = update(tmp_path / "study", new, **asked)
    assert len(result.inputs) == 13
    said = Versions.of(tmp_path / "study").rows[1].said
    assert "1 new example, 1 corrected label" in said


def test_what_changes_nothing_is_refused(study):
    with pytest.raises(UserError, match="only what is known"):
        updated(study, TEXTS[:2], new_labels=LABELS[:2])
    with pytest.raises(UserError, match="sea"):
        updated(study, drop=["sea"])
    assert not (study / "versions.json").exists()
    with pytest.raises(UserError, match="got 7"):
        Versions.of(study).going_to(7)


def test_an_update_that_is_broken_off_changes_nothing(study, notes):
    def stop(event):
        raise KeyboardInterrupt

    notes.trial = stop
    with pytest.raises(KeyboardInterrupt):
        updated(study, ["who is this"], new_labels=["art"], listener=notes)
    assert not (study / "versions.json").exists()
    assert Versions.of(study).current == 1
