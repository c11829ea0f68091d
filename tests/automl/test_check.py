import json
import shutil

import numpy as np
import pytest

from fewshot_automl import check, fit

RNG = np.random.default_rng(0)
ART, LAND = ["good", "film", "bad", "who"], ["river", "city", "where", "name"]


def written(words, count):
    return [" ".join(RNG.choice(words, 4)) + f" {n}" for n in range(count)]


TEXTS = [*written(ART, 20), *written(LAND, 20)]
LABELS = ["art"] * 20 + ["land"] * 20


@pytest.fixture(scope="module")
def study(tmp_path_factory, at_home):
    out = tmp_path_factory.mktemp("check") / "study"
    few = {"budget": "none", "trials": 3, "methods": ["probe"]}
    fit(TEXTS, labels=LABELS, out=out, **few)
    return out


def looked(study, new):
    found = check(study, new, data=TEXTS)
    return found, {each.name: each for each in found.findings}


def test_more_of_the_same_sets_no_alarm_however_frequent_classes_are(study):
    found, rows = looked(study, [*written(ART, 80), *written(LAND, 20)])
    assert not found.is_alarm, rows
    assert found.examples == 100
    assert rows["shares of the answers"].p_value is None  # labels were drawn evenly


def test_other_examples_set_one(study):
    found, _ = looked(study, ["how how how how"] * 40 + ["bad city"] * 40)
    assert found.is_alarm
    assert len(found.farthest) == 5


def test_a_backbone_that_was_trained_on_the_labels_is_not_asked(study, tmp_path):
    """It sets the examples that it learnt from apart from all others."""
    copy = tmp_path / "study"
    shutil.copytree(study, copy)
    summary = json.loads((copy / "result.json").read_text("utf-8"))
    for row in summary["members"]:
        row["config"]["method"] = "full"
    (copy / "result.json").write_text(json.dumps(summary), "utf-8")
    new = [*written(ART, 30), *written(LAND, 30)]
    name = "examples of each class, as the model sees them"
    assert name in looked(study, new)[1]
    found, rows = looked(copy, new)
    assert name not in rows
    assert found.farthest == ()
