"""A user's whole way, on a tiny random-weight backbone, offline."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from fewshot_automl.cli.entry import run

pytestmark = pytest.mark.usefixtures("at_home")


@pytest.fixture(scope="module")
def fitted(home):
    """The last line of a fit with --json, and what the user saw."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("FEWSHOT_ZOO_PATH", str(home / "zoo"))
        patch.setenv("FEWSHOT_CACHE", str(home / "cache"))
        out, err = io.StringIO(), io.StringIO()
        patch.setattr("sys.stdout", out)
        patch.setattr("sys.stderr", err)
        words = "fit --budget none --trials 4 --test new.csv --target stars --json"
        names = "--backbones tiny-bert --methods majority,tfidf,probe reviews.csv"
        code = run([*words.split(), *names.split()])
    assert code == 0, err.getvalue()
    return json.loads(out.getvalue()), err.getvalue()


def test_fit_answers_in_json_and_in_words(fitted):
    answer, said = fitted
    assert answer["folder"] == str(Path("runs/reviews"))
    assert answer["task"]["names"] == ["bad", "good"]
    assert answer["trials"]["done"] == 4
    assert answer["test"]["n"] == 8
    assert answer["ending"] == "trials"
    assert {row["method"] for row in answer["baselines"]} >= {"majority", "tfidf"}
    assert "Input: texts in column 'review'" in said
    assert "trial   1" in said
    assert "On the test data: accuracy" in said
    assert "fewshot predict runs/reviews NEW_DATA" in said
    assert "Traceback" not in said


def test_a_model_of_no_use_is_made_and_told_apart(capsys, home):
    words = "fit reviews.csv --target stars --budget none --trials 1 --out useless"
    assert run([*words.split(), "--methods", "majority"]) == 3
    said = capsys.readouterr()
    assert "warning: The model is no better than always giving" in said.out + said.err
    assert (home / "useless" / "model" / "model.json").exists()


def test_what_the_answer_names_is_there(fitted, home):
    answer, _ = fitted
    assert (home / answer["model"] / "model.json").exists()
    assert (home / answer["report"]).read_text("utf-8").lstrip().startswith("<!")


def test_predict_keeps_the_columns_and_adds_the_answer(fitted, capsys):
    assert run(["predict", "runs/reviews", "new.csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert list(rows[0]) == ["id", "review", "stars", "prediction"]
    assert len(rows) == 8
    assert {row["prediction"] for row in rows} <= {"good", "bad"}
    right = sum(row["prediction"] == row["stars"] for row in rows)
    assert right / 8 == fitted[0]["test"]["accuracy"]


def test_predict_writes_a_file_with_probabilities(fitted, capsys, home):
    words = "predict runs/reviews/model new.csv --proba --out answers.jsonl"
    assert run(words.split()) == 0
    assert "Wrote 8 predictions to answers.jsonl" in capsys.readouterr().err
    lines = (home / "answers.jsonl").read_text("utf-8").splitlines()
    row = json.loads(lines[0])
    assert row["proba_good"] + row["proba_bad"] == pytest.approx(1)


def test_empty_texts_are_named(fitted, capsys, home):
    (home / "gaps.csv").write_text('id,review,stars\n1,good,\n2,"  ",\n', "utf-8")
    assert run(["predict", "runs/reviews", "gaps.csv"]) == 0
    said = capsys.readouterr().err
    assert "1 empty text, where" in said
    assert "gaps.csv" in said


def test_predict_needs_no_zoo_and_no_cache(fitted, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("FEWSHOT_ZOO_PATH", str(tmp_path / "empty"))
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "none"))
    assert run(["predict", "runs/reviews", "new.csv"]) == 0


def test_score_agrees_with_the_fit(fitted, capsys):
    assert run(["score", "runs/reviews", "new.csv", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert list(scores)[:2] == ["metric", scores.pop("metric")]
    assert scores == pytest.approx({**fitted[0]["test"], "n": 8})
    assert run(["score", "runs/reviews", "new.csv", "--target", "stars"]) == 0
    out = capsys.readouterr().out
    assert "(searched for)" in out.splitlines()[0]
    assert f"balanced accuracy   {scores['balanced_accuracy']:.4f}" in out
    assert "macro f1" in out
    assert "log loss" in out


def test_score_names_a_class_the_model_does_not_know(fitted, capsys, tmp_path):
    (tmp_path / "odd.csv").write_text("id,review,stars\n1,a film,odd\n", "utf-8")
    assert run(["score", "runs/reviews", str(tmp_path / "odd.csv")]) == 2
    assert "Label must be one of 'bad', 'good', got 'odd'" in capsys.readouterr().err


def test_resume_goes_on_with_every_finished_trial(fitted, capsys):
    assert run(["resume", "runs/reviews", "--json"]) == 0
    out, err = capsys.readouterr()
    answer = json.loads(out.splitlines()[-1])
    assert "Resuming: 4 trials in the ledger" in err
    assert answer["trials"]["done"] == 4


def test_resume_after_the_data_moved_says_how_to_go_on(fitted, home, capsys):
    shutil.copytree("runs/reviews", "again")
    shutil.copy("reviews.csv", "moved.csv")
    record = json.loads(Path("again/study.json").read_text("utf-8"))
    record["data"] = str(home / "gone.csv")
    Path("again/study.json").write_text(json.dumps(record), "utf-8")
    assert run(["resume", "again"]) == 2
    assert "--data PLACE" in capsys.readouterr().err
    assert run(["resume", "again", "--data", "moved.csv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trials"]["done"] == 4


def test_what_ends_a_fit_is_said_once(tmp_path, capsys):
    rows = ["text,y", *(f"a film {i},{'pn'[i % 2]}" for i in range(6)), "alone,q", ",p"]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    words = ["fit", str(tmp_path / "a.csv"), "--target", "y", "--out", "none"]
    assert run([*words, "--methods", "tfidf", "--trials", "1"]) == 2
    said = "".join(capsys.readouterr())
    assert said.count("too few in 'q'") == said.count("1 empty text left out") == 1


def test_a_folder_in_use_by_other_data_is_refused(fitted, capsys):
    words = "fit new.csv --target stars --trials 1 --out runs/reviews"
    assert run([*words.split(), "--backbones", "tiny-bert"]) == 2
    assert "Choose another --out" in capsys.readouterr().err


def test_space_is_a_table_and_json(capsys):
    words = "space reviews.csv --target stars --methods probe,lora --json"
    assert run([*words.split(), "--backbones", "tiny-bert"]) == 0
    out, err = capsys.readouterr()
    rows = {row["name"]: row for row in json.loads(out.splitlines()[-1])["dimensions"]}
    assert rows["method"]["options"] == ["probe", "lora"]
    assert rows["rank"]["when"] == {"method": ["lora"]}
    assert "rank" in err


def test_space_refuses_a_backbone_for_something_else(capsys):
    words = "space reviews.csv --target stars --backbones resnet18"
    assert run(words.split()) == 2
    assert "Backbones must be for text, got 'resnet18'" in capsys.readouterr().err


def test_an_unfinished_study_says_how_to_finish_it(home, capsys):
    (home / "half").mkdir(exist_ok=True)
    (home / "half" / "study.json").write_text("{}", "utf-8")
    assert run(["predict", "half", "new.csv"]) == 2
    assert "fewshot resume half" in capsys.readouterr().err
