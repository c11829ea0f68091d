"""A study in TensorBoard, MLflow and W&B, read back by their own means."""

import json
from dataclasses import replace

import pytest

from fewshot_automl import Settings, fit, resume
from fewshot_automl.errors import UserError

# They warn of their own deprecations and close files late.
pytestmark = pytest.mark.filterwarnings("ignore::Warning")

SETTINGS = Settings(
    methods=("majority", "tfidf"), budget_seconds=None, trials=2, oracle="random"
)


@pytest.fixture(scope="module")
def fitted(texts, tmp_path_factory):
    """Return ``(track, trials) -> result``, each in a folder of its own."""

    def run(track, trials=2, **more):
        out = tmp_path_factory.mktemp(track) / "study"
        settings = replace(SETTINGS, trials=trials)
        given = {"labels": texts[1], "out": out, "track": track, **more}
        return fit(texts[0], settings=settings, **given)

    return run


def test_tensorboard_has_a_run_for_the_study_and_for_each_trial(fitted):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    result = fitted("tensorboard")
    read = {}
    for home in (result.folder / "tensorboard").iterdir():
        read[home.name] = EventAccumulator(str(home)).Reload()
    assert sorted(read) == ["study", "trial-000", "trial-001"]
    for number, (config, outcome) in enumerate(result.history):
        run = read[f"trial-{number:03}"]
        assert run.Scalars("accuracy")[0].value == pytest.approx(outcome.mean)
        folds = [event.value for event in run.Scalars("fold_accuracy")]
        assert folds == pytest.approx(outcome.scores)
        assert run.Scalars("cost_seconds")[0].value > 0
        content = run.SummaryMetadata(SESSION_START_INFO_TAG).plugin_data.content
        asked = HParamsPluginData.FromString(content).session_start_info.hparams
        assert asked["method"].string_value == config.text("method")
    study, score = read["study"], result.score
    steps = [(e.step, e.value) for e in study.Scalars("accuracy")]
    means = [outcome.mean for _, outcome in result.history]
    assert steps == [(i, pytest.approx(x)) for i, x in enumerate(means, 1)]
    for name in ("corrected", "low", "high"):
        assert study.Scalars(name)[0].value == pytest.approx(getattr(score, name))


def test_the_users_accelerate_state_is_as_it_was(fitted):
    from accelerate import PartialState

    before = dict(PartialState._shared_state)
    fitted("tensorboard", trials=1)
    assert dict(PartialState._shared_state) == before


def test_a_tracker_that_fails_ends_no_study(fitted, notes, monkeypatch):
    from fewshot_automl.automl import tracking

    def refuse(self, values, step=None):
        raise OSError("the disk is full")

    monkeypatch.setattr(tracking._TensorBoard, "log", refuse)
    result = fitted("tensorboard", listener=notes)
    assert len(result.history) == 2
    said = set(notes.heard("Not tracked"))
    assert said == {"warning: Not tracked (OSError: the disk is full)."}


def test_a_missing_library_is_told_before_anything_else(texts, monkeypatch, tmp_path):
    from fewshot_automl.automl import tracking

    monkeypatch.setattr(tracking.trackers, "get_available_trackers", list)
    with pytest.raises(UserError, match=r"pip install 'fewshot-automl\[wandb\]'"):
        fit("no such file", out=tmp_path / "out", track="wandb")


@pytest.mark.slow
def test_mlflow_nests_trials_and_a_resume_goes_on_with_the_run(
    fitted, texts, monkeypatch, tmp_path
):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    result = fitted("mlflow", trials=1)
    name = json.loads((result.folder / "study.json").read_text())["name"]
    resume(result.folder, data=texts[0], labels=texts[1], trials=1)
    found = mlflow.search_runs(
        experiment_names=["fewshot_automl"], output_format="list"
    )
    runs = {run.info.run_name: run for run in found}
    assert sorted(runs) == [name, f"{name}-trial-000", f"{name}-trial-001"]
    for trial in runs.keys() - {name}:
        parent = runs[trial].data.tags["mlflow.parentRunId"]
        assert parent == runs[name].info.run_id
        assert runs[trial].data.params["status"] == "done"
    assert {run.info.status for run in found} == {"FINISHED"}
    assert runs[name].data.params["methods"] == '["majority", "tfidf"]'
    assert {"corrected", "low", "high", "seconds"} <= runs[name].data.metrics.keys()


@pytest.mark.slow
def test_an_mlflow_that_cannot_be_reached_is_told_before_the_first_trial(
    fitted, monkeypatch, tmp_path
):
    pytest.importorskip("mlflow")
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/file/mlflow.db")
    with pytest.raises(UserError, match="Tracking by mlflow could not begin"):
        fitted("mlflow")


def records_of(log, block=32_768, head=7):
    """Yield the records of a file of W&B: a log as LevelDB's, which it cannot read."""
    at, whole = head, b""
    while at + head <= len(log):
        if block - at % block < head:
            at += block - at % block
        size, kind = int.from_bytes(log[at + 4 : at + 6], "little"), log[at + 6]
        whole += log[at + head : at + head + size]
        at += head + size
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


@pytest.mark.slow
def test_wandb_groups_the_runs_of_a_study_offline(fitted, monkeypatch):
    wandb = pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.delenv("WANDB_MODE", raising=False)
    result = fitted("wandb")
    wandb.teardown()  # its service writes late
    name = json.loads((result.folder / "study.json").read_text())["name"]
    runs = {}
    for file in result.folder.glob("wandb/offline-run-*/run-*.wandb"):
        records = [Record.FromString(data) for data in records_of(file.read_bytes())]
        (run,) = {r.run.run_id: r.run for r in records if r.HasField("run")}.values()
        logged = [r.history for r in records if r.HasField("history")]
        runs[run.display_name] = (
            run,
            [
                {
                    item.key or "/".join(item.nested_key): item.value_json
                    for item in h.item
                }
                for h in logged
            ],
        )
    assert sorted(runs) == [name, f"{name}-trial-000", f"{name}-trial-001"]
    assert {run.run_group for run, _ in runs.values()} == {name}
    assert {run.job_type for run, _ in runs.values()} == {"study", "trial"}
    (last,) = [row for row in runs[name][1] if "corrected" in row]
    assert float(last["low"]) == pytest.approx(result.score.low)
