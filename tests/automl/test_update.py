import json

import pytest

from fewshot_automl import Predictor, UserError, fit, update
from fewshot_automl.automl.update import Versions

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


def test_what_changes_nothing_is_refused(study):
    with pytest.raises(UserError, match="only what is known"):
        updated(study, TEXTS[:2], new_labels=LABELS[:2])
    with pytest.raises(UserError, match="sea"):
        updated(study, drop=["sea"])
    assert not (study / "versions.json").exists()
    with pytest.raises(UserError, match="got 7"):
        Versions.of(study).going_to(7)
