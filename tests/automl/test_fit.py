import json
import shutil
from dataclasses import replace
from importlib import import_module

import numpy as np
import pandas as pd
import pytest

from fewshot_automl import Settings, fit, resume
from fewshot_automl.automl import search
from fewshot_automl.automl.record import settings_of
from fewshot_automl.automl.result import RESULT_FILE
from fewshot_automl.errors import DataError, UnknownNameError, UserError
from fewshot_automl.executors import Ranks
from fewshot_automl.ledger import read_outputs
from fewshot_automl.policy import PlacementPlan
from fewshot_automl.predictor import Predictor

SETTINGS = Settings(
    backbones=("tiny-bert",),
    methods=("majority", "tfidf", "probe"),
    budget_seconds=None,
    trials=2,
    oracle="random",
)
SHORT = {"steps": (10, 11), "batch_size": (8, 9)}
CHEAP = replace(SETTINGS, methods=("majority", "tfidf"))


def tried(result):
    return [config for config, _ in result.history]


@pytest.fixture(scope="module")
def files(texts, tmp_path_factory):
    """Return a file of labelled texts and two without a label, and one to test on."""
    folder = tmp_path_factory.mktemp("files")
    train, test = folder / "train.csv", folder / "test.csv"
    table = {"text": [*texts[0], "one more city", "and a film"]}
    pd.DataFrame({**table, "label": [*texts[1], None, None]}).to_csv(train, index=False)
    pd.DataFrame({"text": [f"{x} again" for x in texts[0]], "label": texts[1]}).to_csv(
        test, index=False
    )
    return train, test


def test_long_texts_are_counted_and_read_in_windows(texts, notes, tmp_path):
    filler = "what is the name " * 20
    long = [filler * (i > 1) + text for i, text in enumerate(texts[0])]
    result = fit(
        long,
        labels=texts[1],
        settings=replace(SETTINGS, methods=("probe",), trials=6),
        out=tmp_path / "run",
        listener=notes,
    )
    (said,) = notes.heard("longer than a backbone reads")
    assert f"of {len(long) - 2} (it reads 32 tokens)" in said
    assert said in result.summary["findings"]
    assert "windows" in [config.get("long_texts", "") for config in tried(result)]
    assert not notes.heard("could not")
    proba = result.predictor.predict_proba(long[:4])
    loaded = Predictor.load(result.folder).predict_proba(long[:4])
    np.testing.assert_allclose(loaded, proba, atol=1e-5)


def coded(texts, folder, more):
    """Return texts whose classes are codes, and a file of some without labels."""
    place = folder / "more.csv"
    rows = [f"{text} {n}" for n in range(more) for text in texts[0]]
    pd.DataFrame({"text": rows}).to_csv(place, index=False)
    codes = {name: f"c{n}" for n, name in enumerate(dict.fromkeys(texts[1]))}
    labels = [codes[name] for name in texts[1]]
    return pd.DataFrame({"text": texts[0], "label": labels}), codes, str(place)


def test_unlabelled_rows_and_described_classes_are_learnt_from(texts, tmp_path):
    frame, codes, more = coded(texts, tmp_path, 4)
    settings = replace(
        SETTINGS,
        methods=("probe",),
        narrow={"head": ("mixture",), "class_names": ("examples",)},
        trials=1,
        unlabelled=more,
        describe={code: f"a {name}" for name, code in codes.items()},
    )
    given = {"data": frame, "target": "label", "settings": settings}
    result = fit(**given, out=tmp_path / "run")
    (config,) = tried(result)
    assert (config["head"], config["class_names"]) == ("mixture", "examples")
    assert result.summary["unlabelled"] == 4 * len(frame)
    assert len(tried(resume(tmp_path / "run", data=frame, trials=1))) == 2
    assert result.predictor.task.words == tuple(f"a {name}" for name in codes)


def test_a_tuned_encoder_learns_from_unlabelled_rows_too(texts, tmp_path):
    frame, _, more = coded(texts, tmp_path, 4)
    settings = replace(
        SETTINGS,
        methods=("probe", "contrastive"),
        narrow={"head": ("mixture",), **SHORT},
        trials=4,
        unlabelled=more,
    )
    result = fit(frame, target="label", settings=settings, out=tmp_path / "run")
    (tuned,) = [c for c in tried(result) if c["method"] == "contrastive"][:1]
    outcome = dict(result.history)[tuned]
    assert (tuned["head"], outcome.status) == ("mixture", "done"), outcome.reason


def test_what_is_given_and_not_used_is_said(texts, tmp_path, notes):
    frame, _, more = coded(texts, tmp_path, 1)
    settings = replace(CHEAP, unlabelled=more, describe={"c0": "a film"})
    fit(frame, target="label", settings=settings, out=tmp_path / "run", listener=notes)
    assert notes.heard(f"if there are at least 50, got {len(frame)}.")
    assert notes.heard("Described classes are not used")


@pytest.fixture(scope="module")
def whole(files, new_notes, tmp_path_factory):
    """Return what a fit with the oracle gives, and what it said; only to be read."""
    notes = new_notes()
    train, test = files
    result = fit(
        train,
        target="label",
        test=test,
        trials=7,
        methods=("majority", "tfidf", "probe", "contrastive"),
        settings=replace(SETTINGS, oracle="gp", narrow=SHORT),
        out=tmp_path_factory.mktemp("whole") / "run",
        listener=notes,
    )
    return result, notes


@pytest.fixture(scope="module")
def begun(texts, tmp_path_factory):
    """Return the result of a small study of lists; only to be read."""
    out = tmp_path_factory.mktemp("begun") / "run"
    return fit(texts[0], labels=texts[1], out=out, settings=SETTINGS)


@pytest.fixture
def copied(begun, tmp_path):
    return shutil.copytree(begun.folder, tmp_path / "copied")


def test_text_end_to_end(whole):
    result, notes = whole
    assert len(result.history) == len(set(tried(result))) == 7
    assert {config.text("method") for config in tried(result)} == {
        *("majority", "tfidf", "probe", "contrastive")
    }
    assert {c.get("backbone", "tiny-bert") for c in tried(result)} == {"tiny-bert"}
    assert result.task.names == ("film", "name", "place")
    assert result.score.metric == "accuracy"
    score = result.score
    assert score.low <= score.corrected <= score.expected <= score.high
    assert f"accuracy {score.expected:.3f}" in repr(result)
    assert result.score.examples == 18
    assert result.config in tried(result)
    assert {"model", "predictions", "result.json", "study.json", "study.journal"} <= {
        path.name for path in result.folder.iterdir()
    }
    assert result.summary["ending"] == "trials"
    assert result.summary["trials"]["done"] == 7
    written = (result.folder / RESULT_FILE).read_text()
    assert json.loads(written) == json.loads(json.dumps(result.summary))
    assert set(result.predictor.predict(["good film"])) <= {*result.task.names}
    table = result.trials()
    assert isinstance(table, pd.DataFrame)
    assert len(table) == 7
    assert {"number", "status", "mean", "cost_seconds", "method"} <= set(table.columns)
    assert repr(result).splitlines()[0].startswith("Expect on new data  accuracy ")
    assert f"{result.test_scores['accuracy']:.3f}" in repr(result).splitlines()[1]
    assert "18 labelled texts of 3 classes: film, name, place" in repr(result)
    assert str(result.folder) in result._repr_html_()
    assert [event.kind for event in notes.events] == ["started", "finished"] * 7
    assert notes.heard("Fitting the model")


def test_the_plan_is_said_before_the_first_trial_and_kept(whole):
    result, notes = whole
    assert notes.heard("Plan: ")
    assert "4 folds" in result.summary["plan"]
    assert result.summary["plan"] in result.report().read_text("utf-8")


def test_unlabelled_rows_are_kept_and_counted(whole):
    result, _ = whole
    assert (result.summary["labelled"], result.summary["unlabelled"]) == (18, 2)
    file = result.folder / "predictions" / f"{tried(result)[0].key}.safetensors"
    assert read_outputs(file).shape[1] == 18


def test_test_scores_are_those_of_the_saved_model(whole, files):
    result, _ = whole
    assert {"accuracy", "macro_f1", "log_loss", "n"} <= set(result.test_scores)
    test = pd.read_csv(files[1])
    found = Predictor.load(result.folder).predict(test["text"].tolist())
    accuracy = np.mean([a == b for a, b in zip(found, test["label"], strict=True)])
    assert result.test_scores["accuracy"] == pytest.approx(accuracy)
    assert result.test_scores["n"] == len(test)


def test_resume_reads_files_again(whole, tmp_path):
    first, _ = whole
    folder = shutil.copytree(first.folder, tmp_path / "run")
    again = resume(folder)
    assert tried(again) == tried(first)
    assert again.score == first.score
    assert again.test_scores == pytest.approx(first.test_scores)
    assert settings_of(folder).trials == 7


def test_image_end_to_end_with_a_training_method(images, tmp_path):
    result = fit(
        images[0],
        labels=images[1],
        trials=4,
        backbones=("tiny-vit",),
        methods=("probe", "contrastive"),
        out=tmp_path / "run",
        settings=replace(SETTINGS, narrow=SHORT),
    )
    methods = [config.text("method") for config in tried(result)]
    assert set(methods) == {"probe", "contrastive"}
    assert result.task.modality == "image"
    assert result.test_scores is None
    found = Predictor.load(tmp_path / "run").predict(images[0])
    assert np.mean([a == b for a, b in zip(found, images[1], strict=True)]) > 0.8


@pytest.mark.slow
def test_a_plan_may_share_the_final_fit_alone(texts, tmp_path, monkeypatch):
    where = PlacementPlan(
        executor="in_process", device="cpu", processes=2, reason="Long trainings."
    )
    monkeypatch.setattr(search, "place", lambda *_: where)
    shared = []
    monkeypatch.setattr(Ranks, "run", _noted(Ranks.run, shared))
    settings = replace(SETTINGS, methods=("partial_freeze",), trials=1, narrow=SHORT)
    result = fit(texts[0], labels=texts[1], settings=settings, out=tmp_path / "run")
    assert len(shared) == 1
    assert "backbone" in result.config
    assert len(result.predictor.predict(texts[0][:2])) == 2


def _noted(run, calls):
    def noted(self, *call):
        calls.append(call)
        return run(self, *call)

    return noted


def test_the_same_seed_gives_the_same_study(texts, tmp_path):
    first, second = (
        fit(
            texts[0],
            labels=texts[1],
            trials=3,
            out=tmp_path / name,
            settings=replace(SETTINGS, methods=("probe",), oracle="gp"),
        )
        for name in ("a", "b")
    )
    assert tried(first) == tried(second)
    assert [o.scores for _, o in first.history] == [o.scores for _, o in second.history]
    assert first.score == second.score
    np.testing.assert_array_equal(
        first.predictor.predict_proba(texts[0]),
        second.predictor.predict_proba(texts[0]),
    )


def test_a_metric_that_is_minimised_is_shown_in_its_own_direction(texts, tmp_path):
    out = tmp_path / "r"
    result = fit(texts[0], labels=texts[1], metric="log_loss", out=out, settings=CHEAP)
    assert result.task.metric == result.score.metric == "log_loss"
    best = max((o for _, o in result.history if o.is_done), key=lambda o: o.mean)
    assert best.mean < 0 < result.score.raw
    assert result.score.low <= result.score.high
    assert all(row["score"] > 0 for row in result.summary["baselines"])


def test_a_second_fit_in_the_folder_goes_on(texts, begun, copied, notes):
    second = fit(
        texts[0],
        labels=texts[1],
        trials=3,
        out=copied,
        listener=notes,
        settings=SETTINGS,
    )
    assert len(second.history) == 3
    for old, new in zip(begun.history, second.history, strict=False):
        assert old[0] == new[0]
        assert old[1].to_json() == new[1].to_json()
    assert notes.heard("Resuming: 2 trials")


@pytest.mark.parametrize("change", ["texts", "labels", "metric", "seed"])
def test_another_problem_does_not_fit_in_the_folder(texts, begun, change):
    inputs, labels, more = list(texts[0]), list(texts[1]), {}
    if change == "texts":
        inputs[0] += " again"
    elif change == "labels":
        labels[0] = labels[-1]
    else:
        more = {"metric": "macro_f1"} if change == "metric" else {"seed": 5}
    with pytest.raises(UserError, match="Choose another --out"):
        fit(inputs, labels=labels, out=begun.folder, settings=CHEAP, **more)


def test_a_folder_with_other_things_is_left_alone(texts, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="new or empty"):
        fit(texts[0], labels=texts[1], out=tmp_path, settings=CHEAP)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_resume_of_what_was_in_memory_needs_it_again(texts, tmp_path):
    table = pd.DataFrame({"text": texts[0], "label": texts[1]})
    test = table.assign(text=table["text"] + " again")
    first = fit(table, target="label", test=test, out=tmp_path / "run", settings=CHEAP)
    with pytest.raises(DataError, match="data of the study"):
        resume(tmp_path / "run")
    with pytest.raises(DataError, match="test of the study"):
        resume(tmp_path / "run", data=table)
    again = resume(tmp_path / "run", data=table, test=test)
    assert tried(again) == tried(first)
    assert again.test_scores == first.test_scores


def test_only_a_limit_that_there_is_can_be_raised(begun, tmp_path):
    with pytest.raises(UserError, match="budget must be left out"):
        resume(begun.folder, budget="1min")
    with pytest.raises(UserError, match=r"study\.json"):
        resume(tmp_path)


def test_a_tiny_budget_ends_the_search_with_the_best_cheap_model(texts, tmp_path):
    out = tmp_path / "run"
    result = fit(
        texts[0], labels=texts[1], budget=6.0, backbones=("tiny-bert",), out=out
    )
    assert result.summary["ending"] == "seconds"
    assert any(outcome.is_done for _, outcome in result.history)
    assert result.predictor.predict(["a film"])


@pytest.mark.parametrize("methods", [None, ("contrastive",)])
def test_a_budget_for_nothing_still_buys_a_model(texts, tmp_path, methods):
    asked = {"backbones": ("tiny-bert",), "methods": methods, "budget": 0.01}
    result = fit(texts[0], labels=texts[1], out=tmp_path / "run", **asked)
    assert any(outcome.is_done for _, outcome in result.history)
    assert result.predictor.predict(["a film"])


def test_the_time_line_is_that_of_the_whole_fit(texts, tmp_path):
    asked = {"backbones": ("tiny-bert",), "methods": ("tfidf", "lora"), "trials": 2}
    first = fit(texts[0], labels=texts[1], out=tmp_path / "run", **asked)
    stages = {row["stage"]: row for row in first.summary["timeline"]}
    assert {"imports", "planning", "cheap trials", "final fit", "report"} <= {*stages}
    assert sum(row["seconds"] for row in stages.values()) == pytest.approx(
        first.summary["seconds"], abs=0.01 * len(stages) + 0.1
    )
    again = resume(tmp_path / "run", data=texts[0], labels=texts[1], trials=1)
    earlier, later, *_ = again.summary["timeline"]
    assert earlier["stage"] == "earlier runs"
    assert later["start"] == earlier["seconds"] > 0


def test_a_study_in_a_database(texts, tmp_path):
    url = f"sqlite:///{tmp_path}/studies.db"
    settings = replace(CHEAP, storage=url, trials=1)
    first = fit(texts[0], labels=texts[1], out=tmp_path / "run", settings=settings)
    assert not (tmp_path / "run" / "study.journal").exists()
    again = resume(tmp_path / "run", data=texts[0], labels=texts[1], trials=1)
    assert tried(again)[:1] == tried(first)
    assert len(again.history) == 2
    other = fit(
        texts[0][:-3], labels=texts[1][:-3], out=tmp_path / "other", settings=settings
    )
    assert len(other.history) == 1  # a study of its own in the same database


@pytest.mark.slow
def test_two_processes_try_side_by_side(texts, tmp_path):
    settings = Settings(
        backbones=("tiny-bert",),
        executor="loky",
        workers=2,
        budget_seconds=None,
        trials=5,
    )
    result = fit(texts[0], labels=texts[1], out=tmp_path / "run", settings=settings)
    assert len(set(tried(result))) == 5
    assert all(outcome.is_done for _, outcome in result.history)
    assert result.predictor.predict(["a film"])


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"methods": ("prob",)}, UnknownNameError),
        ({"backbones": ("tiny-brt",)}, UnknownNameError),
        ({"metric": "acuracy"}, UserError),
        ({"budget": "soon"}, UserError),
    ],
)
def test_wrong_words_are_refused_before_any_work(texts, tmp_path, values, error):
    options = {"settings": SETTINGS, **values}
    with pytest.raises(error):
        fit(texts[0], labels=texts[1], out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_backbone_of_another_modality_is_refused(texts, tmp_path):
    with pytest.raises(UserError, match="must be for text, got 'tiny-vit'"):
        fit(texts[0], labels=texts[1], backbones=("tiny-vit",), out=tmp_path / "run")


def test_a_study_in_which_nothing_was_done_is_not_kept(texts, tmp_path):
    out, settings = tmp_path / "run", replace(SETTINGS, narrow={"rnk": (4,)})
    with pytest.raises(UnknownNameError, match="No dimension named 'rnk'"):
        fit(texts[0], labels=texts[1], out=out, settings=settings)
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="must be new or empty"):
        fit(texts[0], labels=texts[1], out=out, settings=SETTINGS)
    assert (out / "mine.txt").exists()


def test_a_failing_method_does_not_stop_a_study(texts, tmp_path, monkeypatch):
    from fewshot_automl.adaptation.frozen import Probe
    from fewshot_automl.errors import TrialError

    def fail(self, train, labels, job):
        raise TrialError("the moon is full")

    monkeypatch.setattr(Probe, "fit", fail)
    result = fit(
        texts[0], labels=texts[1], trials=3, out=tmp_path / "r", settings=SETTINGS
    )
    failed = [o for _, o in result.history if o.status == "failed"]
    assert failed
    assert "the moon is full" in failed[0].reason
    assert result.config.text("method") != "probe"
    assert result.summary["trials"]["failed"] == len(failed)


def test_the_model_is_a_committee_with_weights(texts, tmp_path):
    result = fit(
        texts[0],
        labels=texts[1],
        methods=("majority", "tfidf", "probe"),
        out=tmp_path / "r",
        settings=replace(SETTINGS, members=3, trials=3),
    )
    members = result.summary["members"]
    methods = {result.history[row["number"]][0].text("method") for row in members}
    assert methods == {"tfidf", "probe"}  # a constant answer has no vote
    weights = [row["weight"] for row in members]
    assert sum(weights) == pytest.approx(1)
    assert weights == sorted(weights, reverse=True)
    beside = result.summary["beside_best"]
    assert {"accuracy", "log_loss"} <= beside["scores"].keys()
    assert beside["number"] in [row["number"] for row in members]
    assert "The model averages trials by weight" in str(result)
    assert f"{weights[0]:.2f}" in result.report().read_text("utf-8")
    proba = result.predictor.predict_proba(texts[0])
    again = Predictor.load(result.predictor.save(tmp_path / "copy"))
    np.testing.assert_allclose(again.predict_proba(texts[0]), proba, atol=1e-6)
    kept = read_outputs(result.folder / result.summary["predictions"])
    np.testing.assert_allclose(kept.sum(axis=2), 1, rtol=1e-5)
    accuracy = np.mean(
        [
            result.task.names[place] == label
            for repeat in kept
            for place, label in zip(repeat.argmax(axis=1), texts[1], strict=True)
        ]
    )
    assert result.score.raw == pytest.approx(accuracy)


def test_members_may_be_changed_by_a_resume(texts, copied):
    for members in (2, 1):
        settings = replace(SETTINGS, members=members)
        result = fit(texts[0], labels=texts[1], out=copied, settings=settings)
        assert len(result.summary["members"]) <= members
    assert result.summary["members"][0]["weight"] == 1.0
    assert result.summary["beside_best"] == {}


def test_more_time_for_a_study_changes_its_plan_and_not_its_folds(texts, tmp_path):
    settings = replace(SETTINGS, budget_seconds=40.0, trials=1)
    first = fit(texts[0], labels=texts[1], out=tmp_path / "r", settings=settings)
    more = resume(tmp_path / "r", data=texts[0], labels=texts[1], budget="1h", trials=1)
    assert len(more.history) == 2
    assert first.summary["plan"] != more.summary["plan"]
    assert first.summary["folds"] == more.summary["folds"]


def test_methods_that_train_alone_make_a_model(texts, tmp_path):
    methods = ("partial_freeze", "lora", "full")
    result = fit(
        texts[0],
        labels=texts[1],
        methods=methods,
        trials=3,
        out=tmp_path / "r",
        settings=replace(SETTINGS, members=1, narrow=SHORT),
    )
    assert {config.text("method") for config in tried(result)} == {*methods}
    assert all(outcome.is_done for _, outcome in result.history)


@pytest.mark.parametrize("place", ["terminal", "notebook", "log", "nowhere"])
def test_progress_is_seen_where_somebody_watches(
    place, texts, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: place == "notebook")
    monkeypatch.setattr("sys.stderr.isatty", lambda: place == "terminal", raising=False)
    asked = {"progress": True} if place == "log" else {}
    out = tmp_path / "r"
    result = fit(texts[0], labels=texts[1], out=out, settings=CHEAP, **asked)
    shown = capsys.readouterr()
    seen = shown.out if place == "notebook" else shown.err
    assert ("Target: 3 classes" in seen) == (place != "nowhere")
    assert ("trial   0  majority: accuracy" in seen) == (place in ("notebook", "log"))
    again = resume(out, data=texts[0], labels=texts[1], trials=1, progress=False)
    assert not any(capsys.readouterr())
    assert again.score == result.score


def test_what_is_amiss_is_a_warning_where_nobody_listens(texts, tmp_path):
    labels = ["film", *texts[1][:-1], "place"]
    with pytest.warns(UserWarning, match=r"1 empty text left out\. \(row 0\)"):
        result = fit(["", *texts[0]], labels=labels, out=tmp_path / "r", settings=CHEAP)
    assert "1 empty text left out" in repr(result)
    assert "Noticed</th>" in result._repr_html_()


@pytest.mark.parametrize("name", [0, ("label", 1)])
def test_numpys_numbers_and_names_that_are_no_words(name, texts, tmp_path):
    frame = pd.DataFrame({"t": texts[0], name: texts[1]})
    result = fit(
        frame,
        target=name,
        trials=np.int64(1),
        seed=np.uint8(3),
        budget=np.float32(600),
        limits={"max_memory_mb": np.float32(50)},
        methods=np.array(["majority", "tfidf"]),
        out=tmp_path / "r",
    )
    asked = settings_of(result.folder)
    assert (asked.target, asked.trials, asked.seed) == (str(name), 1, 3)
    assert result.predictor.columns.target == str(name)


def test_old_studies_in_the_cache_go_with_a_word(texts, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path))
    monkeypatch.setattr(import_module("fewshot_automl.automl.fit"), "KEPT_BYTES", 10)
    home = tmp_path / "studies"
    for name, file in (("1", RESULT_FILE), ("2", "study.json"), ("3", RESULT_FILE)):
        (home / name).mkdir(parents=True)
        (home / name / file).write_text("{} and more", "utf-8")
    alone = replace(SETTINGS, methods=("majority",), trials=1)
    result = fit(texts[0], labels=texts[1], settings=alone)
    # The newest is spared, and one that may be running.
    assert {path.name for path in home.iterdir()} == {"2", "3", result.folder.name}
    assert [r.args[0].name for r in caplog.records if "Deleted" in r.msg] == ["1"]


def test_a_cache_that_cannot_be_written_is_said(texts, monkeypatch, tmp_path, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "file"))
    alone = replace(SETTINGS, methods=("probe",), trials=1)
    fit(texts[0], labels=texts[1], settings=alone, out=tmp_path / "run")
    assert [r.getMessage().count("FEWSHOT_CACHE") for r in caplog.records] == [1]
    with pytest.raises(UserError, match=r"Output folder must be .*\(in Python: out\)"):
        fit(texts[0], labels=texts[1], settings=alone)


def test_a_method_that_trains_is_searched_alone(texts, tmp_path):
    settings = replace(SETTINGS, trials=3, methods=("contrastive",), narrow=SHORT)
    result = fit(texts[0], labels=texts[1], settings=settings, out=tmp_path / "run")
    assert [config["method"] for config in tried(result)] == ["contrastive"] * 3


@pytest.mark.parametrize("members", [1, 3])
def test_a_study_of_trainings_on_one_fold_ends_with_a_model_and_a_report(
    texts, members, tmp_path, monkeypatch
):
    module = import_module("fewshot_automl.trial.evaluate")
    monkeypatch.setattr(module, "_is_enough", lambda times, *ends: bool(times))
    result = fit(
        texts[0],
        labels=texts[1],
        settings=replace(
            SETTINGS,
            methods=("contrastive", "partial_freeze"),
            narrow=SHORT,
            members=members,
        ),
        out=tmp_path / "run",
    )
    assert [len(outcome.scores) for _, outcome in result.history] == [1, 1]
    files = (result.folder / "predictions").glob("*.safetensors")
    for outputs in map(read_outputs, files):  # of both trials and the model
        known = ~np.isnan(outputs).any(axis=(0, 2))
        assert 0 < known.sum() < len(texts[0])
    assert 0 <= result.score.low <= result.score.corrected <= result.score.high <= 1
    assert "Class by class" in result.report().read_text("utf-8")
    assert len(result.predictor.predict(texts[0][:3])) == 3
