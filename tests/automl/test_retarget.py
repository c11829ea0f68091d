import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fewshot_automl import UserError, fit, retarget
from fewshot_automl.adaptation.fitted import Adapted
from fewshot_automl.adaptation.saved import size_of
from fewshot_automl.automl.retarget import Change, free_beside, in_words
from fewshot_automl.errors import ExportError
from fewshot_automl.evaluation.resampling import pooled_score
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
    outputs = read_outputs(result.folder / result.summary["predictions"])
    known = pooled_score(metric, np.array(old["labels"]), outputs.astype(np.float64))
    assert changes[0].name == "cost"
    assert changes[0].after == pytest.approx(metric.orient(known), abs=1e-6)
    kept = Task.from_json(
        json.loads((result.folder / "result.json").read_text())["task"]
    )
    assert kept.costs.matrix == ((0.0, 5.0), (1.0, 0.0))
    other, _ = again(result.folder, coverage=0.75)  # which takes the place of a price
    assert other.task.costs.no_answer is None
    assert other.predictor.task.costs.bound is not None
    assert other.score.metric == "cost"


def test_the_same_goal_gives_the_same_model(study, tmp_path):
    result, changes = again(study, metric="accuracy", out=tmp_path / "same")
    assert all(one.before == one.after for one in changes if one.low is not None)
    old = json.loads((study / "result.json").read_text())
    labels = dict(zip(old["keys"], old["labels"], strict=True))
    assert [labels[key] for key in old["typical"]] == [0, 1]
    assert result.summary["typical"] == old["typical"]
    assert [m["config"] for m in result.summary["members"]] == [
        m["config"] for m in old["members"]
    ]


def test_members_of_the_old_model_are_not_loaded_or_written_again(
    study, tmp_path, monkeypatch
):
    old = json.loads((study / "result.json").read_text())
    with monkeypatch.context() as patch:
        patch.setattr(Adapted, "load", None)  # nothing may be loaded
        patch.setattr(Adapted, "save", None)
        same, _ = again(study, coverage=0.75, out=tmp_path / "same")
        goal = {"max_parameters": 1000.0}
        few, changed = again(study, limits=goal, out=tmp_path / "few")
    assert in_words(old["members"], same).endswith("same members as before.")
    assert same.predictor.predict(TEXTS) is not None
    assert same.measures == pytest.approx(old["measures"])
    assert same.summary["answered"]["coverage"] == pytest.approx(0.75, abs=0.15)
    assert same.summary["ending"] == few.summary["ending"] == "chosen"
    inodes = [
        {path.stat().st_ino for path in folder.rglob("*.safetensors")}
        for folder in (study / "model", same.folder / "model")
    ]
    assert inodes[0] == inodes[1]
    # TF-IDF alone keeps the limit, although no backbone does.
    assert few.is_feasible
    assert [row["config"]["method"] for row in few.summary["members"]] == ["tfidf"]
    assert few.measures["parameters"] == size_of(few.predictor.fitted)["parameters"]
    less = next(one for one in changed if one.name == "parameters")
    assert less.verdict == "better"
    assert len(few.predictor.predict(TEXTS)) == len(TEXTS)


def test_a_damaged_model_is_not_passed_on(study, tmp_path):
    shutil.copytree(study, tmp_path / "study")
    head = next((tmp_path / "study" / "model").rglob("head.safetensors"))
    head.write_bytes(head.read_bytes()[:-1] + b"x")
    with pytest.raises(ExportError, match="changed"):
        again(tmp_path / "study", coverage=0.75, out=tmp_path / "new")


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"after": 0.5}, "the same"),
        ({"after": 0.6, "low": 0.01, "high": 0.2, "is_maximised": True}, "better"),
        ({"after": 0.4, "low": -0.2, "high": -0.01, "is_maximised": True}, "worse"),
        ({"after": 0.6, "low": -0.1, "high": 0.3, "is_maximised": True}, "unclear"),
        ({"after": 0.6, "low": 0.01, "high": 0.2}, "worse"),
        ({"after": 0.4}, "better"),
    ],
)
def test_the_verdict_knows_which_way_is_better(values, word):
    assert Change(name="x", before=0.5, **values).verdict == word


def test_a_class_is_found_as_often_as_asked(study, tmp_path):
    result, changes = again(study, min_recall={"art": 1.0}, out=tmp_path / "found")
    (recall,) = [one for one in changes if one.name == "recall of art"]
    assert recall.after == 1.0
    assert recall.low <= recall.after - recall.before <= recall.high
    rules, labels = result.task.rules, np.array(result.summary["labels"])
    outputs = read_outputs(result.folder / result.summary["predictions"])
    rules = Task.from_json(result.summary["task"]).rules
    for repeat in outputs:
        assert (rules.decide(repeat)[labels == 0] == 0).all()
    right = [(rules.decide(repeat) == labels).mean() for repeat in outputs]
    assert result.score.raw == pytest.approx(np.mean(right))  # of what it answers


def test_a_wish_out_of_reach_is_told_and_the_model_is_kept(study, tmp_path, new_notes):
    wish, heard = {"art": 1.0, "land": 1.0}, new_notes()
    about = {"out": tmp_path / "both", "listener": heard, "coverage": 0.5}
    result, _ = again(study, min_recall=wish, **about)
    costs = result.predictor.task.costs
    assert costs.matrix == ((0.0, 1.0), (1.0, 0.0))
    labels = np.array(result.summary["labels"])
    outputs = read_outputs(result.folder / result.summary["predictions"])
    answers = np.concatenate([costs.decide(repeat) for repeat in outputs])
    truth = np.tile(labels, len(outputs))
    is_found = all((answers[(truth == k) & (answers >= 0)] == k).all() for k in (0, 1))
    assert is_found != bool(heard.heard("cannot be reached"))


@pytest.mark.parametrize(
    ("goal", "words"),
    [
        ({"colour": 1}, "colour"),
        ({"cost": {"art->sea": 1.0}}, "'sea'"),
        ({"min_recall": {"sea": 0.5}}, "'sea'"),
        ({"min_recall": {"art": 1.5}}, "at most 1"),
    ],
)
def test_what_is_no_goal_is_refused(study, tmp_path, goal, words):
    with pytest.raises(UserError, match=words):
        again(study, out=tmp_path / "no", **goal)


def test_the_new_study_lies_beside_the_folder_one_stands_in(tmp_path, monkeypatch):
    (tmp_path / "mail").mkdir()
    (tmp_path / "mail-retargeted").mkdir()
    monkeypatch.chdir(tmp_path / "mail")
    assert free_beside(Path()) == tmp_path / "mail-retargeted-2"
