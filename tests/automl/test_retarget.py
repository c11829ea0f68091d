import json

import numpy as np
import pytest

from fewshot_automl import UserError, fit, retarget
from fewshot_automl.ledger import read_outputs
from fewshot_automl.tasks import Task

TEXTS = [f"{word} {n}" for n in range(8) for word in ("good film", "river city")]
LABELS = ["art", "land"] * 8


@pytest.fixture(scope="module")
def study(tmp_path_factory, at_home):
    out = tmp_path_factory.mktemp("retarget") / "study"
    fit(
        TEXTS,
        labels=LABELS,
        budget="none",
        trials=4,
        methods=["tfidf", "probe"],
        out=out,
    )
    return out


def again(study, **goal):
    return retarget(study, data=TEXTS, labels=LABELS, **goal)


def test_all_trials_are_scored_by_the_new_goal_and_none_is_trained(study):
    before = (study / "result.json").read_bytes()
    result, changes = again(study, cost={"art->land": 5.0}, abstain_cost=0.5)
    assert result.folder.name == "study-retargeted"
    assert result.score.metric == "cost"
    old = json.loads(before)
    assert len(result.history) == sum(old["trials"].values())
    for config, outcome in result.history:
        outputs = read_outputs(study / f"predictions/{config.key}.safetensors")
        metric = result.task.measured
        values = [metric.score(np.array(old["labels"]), x) for x in outputs]
        assert outcome.mean == pytest.approx(np.mean(values))
    assert (study / "result.json").read_bytes() == before
    assert changes[0].name == "cost"
    kept = Task.from_json(
        json.loads((result.folder / "result.json").read_text())["task"]
    )
    assert kept.costs.matrix == ((0.0, 5.0), (1.0, 0.0))


def test_the_same_goal_gives_the_same_model(study, tmp_path):
    result, changes = again(study, metric="accuracy", out=tmp_path / "same")
    assert all(one.before == one.after for one in changes if one.low is not None)
    old = json.loads((study / "result.json").read_text())
    assert [m["config"] for m in result.summary["members"]] == [
        m["config"] for m in old["members"]
    ]


def test_a_class_is_found_as_often_as_asked(study, tmp_path):
    result, _ = again(study, min_recall={"art": 1.0}, out=tmp_path / "found")
    rules, labels = result.task.rules, np.array(result.summary["labels"])
    outputs = read_outputs(result.folder / result.summary["predictions"])
    rules = Task.from_json(result.summary["task"]).rules
    for repeat in outputs:
        assert (rules.decide(repeat)[labels == 0] == 0).all()


@pytest.mark.parametrize(
    ("goal", "words"),
    [({"colour": 1}, "colour"), ({"cost": {"art->sea": 1.0}}, "'sea'")],
)
def test_what_is_no_goal_is_refused(study, tmp_path, goal, words):
    with pytest.raises(UserError, match=words):
        again(study, out=tmp_path / "no", **goal)
