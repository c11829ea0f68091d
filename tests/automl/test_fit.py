import json

import numpy as np
import pandas as pd
import pytest

from fewshot_automl import Settings, fit, resume
from fewshot_automl.automl.record import settings_of
from fewshot_automl.automl.result import RESULT_FILE
from fewshot_automl.errors import DataError, RunError, UnknownNameError, UserError
from fewshot_automl.ledger import read_outputs
from fewshot_automl.predictor import Predictor

TEXT = {"backbones": ("tiny-bert",)}
QUICK = {**TEXT, "methods": ("majority", "tfidf", "probe"), "budget": "none"}


def outputs_of(result, config):
    return read_outputs(result.folder / "predictions" / f"{config.key}.safetensors")


def the_other(tried, winner, *_, **__):
    return [1 - winner]


def tried(result):
    return [config for config, _ in result.history]


def test_text_end_to_end(texts, tmp_path, notes):
    result = fit(
        texts[0],
        labels=texts[1],
        trials=8,
        budget="none",
        out=tmp_path / "run",
        listener=notes,
        **TEXT,
    )
    assert len(result.history) == len(set(tried(result))) == 8
    assert result.task.names == ("film", "name", "place")
    assert result.score.metric == "accuracy"
    assert result.score.low <= result.score.corrected <= result.score.high
    assert result.score.examples == 18
    assert result.config in tried(result)
    assert result.folder == tmp_path / "run"
    assert result.test_scores is None
    assert {"model", "predictions", "result.json", "study.json", "study.journal"} <= {
        path.name for path in result.folder.iterdir()
    }
    assert result.report().exists()
    assert result.summary["ending"] == "trials"
    assert result.summary["trials"]["done"] == 8
    assert result.summary["labelled"] == 18
    written = (result.folder / RESULT_FILE).read_text()
    assert json.loads(written) == json.loads(json.dumps(result.summary))
    assert set(result.predictor.predict(["good film", "river"])) <= {
        "film",
        "name",
        "place",
    }
    table = result.trials()
    assert isinstance(table, pd.DataFrame)
    assert len(table) == 8
    assert {"number", "status", "mean", "cost_seconds", "method"} <= set(table.columns)
    assert str(result).startswith("Best: ")
    assert [event.kind for event in notes.events] == ["started", "finished"] * 8
    assert any("Fitting the winner" in sentence for sentence in notes.sentences)


def test_image_end_to_end_with_a_training_method(images, tmp_path):
    result = fit(
        images[0],
        labels=images[1],
        trials=5,
        budget="none",
        backbones=("tiny-vit",),
        methods=("probe", "contrastive"),
        out=tmp_path / "run",
    )
    methods = [config.text("method") for config in tried(result)]
    assert set(methods) == {"probe", "contrastive"}
    assert result.task.modality == "image"
    found = Predictor.load(tmp_path / "run").predict(images[0])
    assert np.mean([a == b for a, b in zip(found, images[1], strict=True)]) > 0.8


def test_the_same_seed_gives_the_same_study(texts, tmp_path):
    first, second = (
        fit(texts[0], labels=texts[1], trials=4, out=tmp_path / name, **QUICK)
        for name in ("a", "b")
    )
    assert tried(first) == tried(second)
    assert [o.scores for _, o in first.history] == [o.scores for _, o in second.history]
    assert first.score == second.score
    np.testing.assert_array_equal(
        first.predictor.predict_proba(texts[0]),
        second.predictor.predict_proba(texts[0]),
    )


@pytest.mark.parametrize("metric", ["macro_f1", "log_loss"])
def test_searches_the_metric_it_is_told(texts, tmp_path, metric):
    result = fit(
        texts[0], labels=texts[1], trials=3, metric=metric, out=tmp_path / "r", **QUICK
    )
    assert result.task.metric == result.score.metric == metric
    best = max((o for _, o in result.history if o.is_done), key=lambda o: o.mean)
    assert result.score.low <= result.score.high
    if metric == "log_loss":
        assert best.mean < 0 < result.score.raw  # told in its own direction
        assert all(row["score"] > 0 for row in result.summary["baselines"])


def test_methods_narrow_the_search(texts, tmp_path):
    result = fit(texts[0], labels=texts[1], trials=4, out=tmp_path / "r", **QUICK)
    used = {config.text("method") for config in tried(result)}
    assert used == {"majority", "tfidf", "probe"}
    assert {config.get("backbone", "tiny-bert") for config in tried(result)} == {
        "tiny-bert"
    }


def test_unlabelled_rows_are_kept_and_counted(texts, tmp_path):
    data = pd.DataFrame({"text": [*texts[0], "one more city", "and a film"]})
    data["label"] = [*texts[1], None, None]
    result = fit(data, target="label", trials=2, out=tmp_path / "r", **QUICK)
    assert (result.summary["labelled"], result.summary["unlabelled"]) == (18, 2)
    some = result.history[0][0]
    assert outputs_of(result, some).shape[1] == 18


def test_test_data_are_scored_at_the_end(texts, tmp_path):
    table = pd.DataFrame({"text": texts[0], "label": texts[1]})
    test = pd.DataFrame(
        {"text": ["a bad film is", "the river is where"], "label": ["film", "place"]}
    )
    result = fit(
        table, target="label", test=test, trials=3, out=tmp_path / "run", **QUICK
    )
    assert result.test_scores is not None
    assert result.test_scores["n"] == 2
    assert {"accuracy", "macro_f1", "log_loss", "n"} <= set(result.test_scores)
    with pytest.raises(DataError, match="test of the study"):
        resume(tmp_path / "run", data=table)
    again = resume(tmp_path / "run", data=table, test=test)
    assert again.test_scores == result.test_scores


def test_a_second_fit_in_the_folder_goes_on(texts, tmp_path, notes):
    first = fit(texts[0], labels=texts[1], trials=2, out=tmp_path / "r", **QUICK)
    second = fit(
        texts[0], labels=texts[1], trials=4, out=tmp_path / "r", listener=notes, **QUICK
    )
    assert len(second.history) == 4
    for old, new in zip(first.history, second.history, strict=False):
        assert old[0] == new[0]
        assert old[1].to_json() == new[1].to_json()
    assert any("Resuming: 2 trials" in sentence for sentence in notes.sentences)


@pytest.mark.parametrize("change", ["texts", "labels", "metric", "seed"])
def test_another_problem_does_not_fit_in_the_folder(texts, tmp_path, change):
    fit(texts[0], labels=texts[1], trials=1, out=tmp_path / "r", **QUICK)
    inputs, labels, more = list(texts[0]), list(texts[1]), {}
    if change == "texts":
        inputs[0] += " again"
    elif change == "labels":
        labels[0] = labels[-1]
    else:
        more = {"metric": "macro_f1"} if change == "metric" else {"seed": 5}
    with pytest.raises(UserError, match="Choose another --out"):
        fit(inputs, labels=labels, trials=1, out=tmp_path / "r", **more, **QUICK)


def test_a_folder_with_other_things_is_left_alone(texts, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="new or empty"):
        fit(texts[0], labels=texts[1], trials=1, out=tmp_path, **QUICK)
    assert [p.name for p in tmp_path.iterdir() if p.name != "cache"] == ["thesis.tex"]


def test_resume_reads_files_again(texts, tmp_path):
    csv = tmp_path / "train.csv"
    pd.DataFrame({"text": texts[0], "label": texts[1]}).to_csv(csv, index=False)
    first = fit(csv, target="label", trials=2, out=tmp_path / "run", **QUICK)
    again = resume(tmp_path / "run")
    assert tried(again) == tried(first)
    assert again.score == first.score
    assert settings_of(tmp_path / "run").trials == 2


def test_resume_of_lists_needs_the_lists(texts, tmp_path):
    first = fit(texts[0], labels=texts[1], trials=2, out=tmp_path / "run", **QUICK)
    with pytest.raises(DataError, match="in memory"):
        resume(tmp_path / "run")
    again = resume(tmp_path / "run", data=texts[0], labels=texts[1])
    assert tried(again) == tried(first)


def test_resume_of_nothing_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"study\.json"):
        resume(tmp_path)


def test_a_tiny_budget_ends_the_search_with_the_best_cheap_model(texts, tmp_path):
    result = fit(texts[0], labels=texts[1], budget=6.0, out=tmp_path / "run", **TEXT)
    assert result.summary["ending"] == "seconds"
    done = [(c, o) for c, o in result.history if o.is_done]
    assert done
    assert result.predictor.predict(["a film"])


def test_a_budget_for_nothing_says_so(texts, tmp_path):
    with pytest.raises(RunError, match="larger budget"):
        fit(texts[0], labels=texts[1], budget=0.01, out=tmp_path / "run", **TEXT)


def test_a_study_in_a_database(texts, tmp_path):
    url = f"sqlite:///{tmp_path}/studies.db"
    options = {
        "settings": Settings(storage=url, budget_seconds=None, trials=2),
        **{k: v for k, v in QUICK.items() if k != "budget"},
    }
    first = fit(texts[0], labels=texts[1], out=tmp_path / "run", **options)
    assert len(first.history) == 2
    assert not (tmp_path / "run" / "study.journal").exists()
    again = resume(tmp_path / "run", data=texts[0], labels=texts[1])
    assert tried(again) == tried(first)
    other = fit(texts[0][:-3], labels=texts[1][:-3], out=tmp_path / "other", **options)
    assert len(other.history) == 2  # a study of its own in the same database


@pytest.mark.slow
def test_two_processes_try_side_by_side(texts, tmp_path):
    result = fit(
        texts[0],
        labels=texts[1],
        trials=5,
        out=tmp_path / "run",
        settings=Settings(executor="loky", workers=2, budget_seconds=None, trials=5),
        **TEXT,
    )
    assert len(set(tried(result))) == 5
    assert all(outcome.is_done for _, outcome in result.history)
    assert result.predictor.predict(["a film"])


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"methods": ("prob",)}, UnknownNameError),
        ({"backbones": ("tiny-brt",)}, UnknownNameError),
        ({"metric": "acuracy"}, UserError),
        ({"backbones": ("tiny-vit",)}, UserError),
        ({"settings": Settings(oracle="delphi")}, UnknownNameError),
        ({"settings": Settings(executor="butler")}, UnknownNameError),
        ({"budget": "soon"}, UserError),
    ],
)
def test_wrong_words_are_refused_before_any_trial(texts, tmp_path, values, error):
    options = {**QUICK, "trials": 1, **values}
    with pytest.raises(error):
        fit(texts[0], labels=texts[1], out=tmp_path / "run", **options)
    assert not (tmp_path / "run" / "study.journal").exists()


def test_a_failing_method_does_not_stop_a_study(texts, tmp_path, monkeypatch):
    from fewshot_automl.adaptation.frozen import Probe
    from fewshot_automl.errors import TrialError

    def fail(self, train, labels, job):
        raise TrialError("the moon is full")

    monkeypatch.setattr(Probe, "fit", fail)
    result = fit(texts[0], labels=texts[1], trials=4, out=tmp_path / "r", **QUICK)
    failed = [o for _, o in result.history if o.status == "failed"]
    assert failed
    assert "the moon is full" in failed[0].reason
    assert result.config.text("method") != "probe"
    assert result.summary["trials"]["failed"] == len(failed)


def test_a_winner_that_cannot_be_fitted_gives_way_and_says_so(
    texts, tmp_path, monkeypatch, notes
):
    from fewshot_automl.automl import fitting
    from fewshot_automl.errors import TrialError

    real, calls = fitting.refit, []

    def first_fails(context, config, deadline=None):
        calls.append(config)
        if len(calls) == 1:
            raise TrialError("out of memory")
        return real(context, config, deadline)

    monkeypatch.setattr(fitting, "refit", first_fails)
    result = fit(
        texts[0],
        labels=texts[1],
        trials=4,
        out=tmp_path / "r",
        listener=notes,
        settings=Settings(members=1),  # an average may score higher than any trial
        **QUICK,
    )
    assert result.config == calls[1] != calls[0]
    members = [member["config"] for member in result.summary["members"]]
    assert calls[0].to_json() not in members
    assert any("out of memory" in sentence for sentence in notes.sentences)
    assert result.score.raw <= max(o.mean for _, o in result.history) + 1e-9


def test_a_partner_that_cannot_be_fitted_is_left_out(
    texts, tmp_path, monkeypatch, notes
):
    from fewshot_automl.automl import finish, fitting
    from fewshot_automl.errors import TrialError

    real, calls = fitting.refit, []

    def second_fails(context, config, deadline=None):
        calls.append(config)
        if len(calls) == 2:
            raise TrialError("the moon is full")
        return real(context, config, deadline)

    monkeypatch.setattr(fitting, "refit", second_fails)
    monkeypatch.setattr(finish, "partners_of", the_other)
    result = fit(
        texts[0],
        labels=texts[1],
        trials=2,
        out=tmp_path / "r",
        listener=notes,
        **{**QUICK, "methods": ("tfidf", "probe")},
    )
    assert [member["number"] for member in result.summary["members"]] == [
        result.summary["winner"]["number"]
    ]
    assert any("the moon is full" in sentence for sentence in notes.sentences)


def test_models_too_close_to_call_are_averaged(texts, tmp_path, monkeypatch):
    from fewshot_automl.automl import finish

    monkeypatch.setattr(finish, "partners_of", the_other)
    result = fit(
        texts[0],
        labels=texts[1],
        trials=2,
        out=tmp_path / "r",
        **{**QUICK, "methods": ("tfidf", "probe")},
    )
    assert len(result.summary["members"]) == 2
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


def test_the_plan_is_told_before_the_first_trial_and_kept(texts, tmp_path, notes):
    result = fit(
        texts[0], labels=texts[1], trials=2, out=tmp_path / "r", listener=notes, **QUICK
    )
    assert any(sentence.startswith("Plan: ") for sentence in notes.sentences)
    assert "4 folds" in result.summary["plan"]
    assert result.summary["plan"] in result.report().read_text("utf-8")


def test_more_time_for_a_study_changes_its_plan_and_not_its_folds(
    texts, tmp_path, notes
):
    first = fit(
        texts[0],
        labels=texts[1],
        trials=2,
        out=tmp_path / "r",
        **{**QUICK, "budget": 40.0},
    )
    more = resume(
        tmp_path / "r",
        data=texts[0],
        labels=texts[1],
        budget="1h",
        trials=1,
        listener=notes,
    )
    assert len(more.history) == 3
    assert first.summary["plan"] != more.summary["plan"]
    assert first.summary["folds"] == more.summary["folds"]
    shapes = {outputs_of(more, config).shape for config, _ in more.history}
    assert len(shapes) == 1


@pytest.mark.parametrize(
    "method", ["tfidf", "prototype", "contrastive", "partial_freeze", "lora", "full"]
)
def test_any_one_method_alone_makes_a_model(texts, tmp_path, method):
    result = fit(
        texts[0],
        labels=texts[1],
        methods=(method,),
        budget="none",
        trials=2,
        out=tmp_path / "r",
        settings=Settings(members=1),
        **TEXT,
    )
    assert {config.text("method") for config in tried(result)} == {method}
    assert all(outcome.is_done for _, outcome in result.history)
