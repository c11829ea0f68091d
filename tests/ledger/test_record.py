import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewshot_automl.errors import LedgerError, SpaceError, UserError
from fewshot_automl.ledger import INTERRUPTED, Ledger
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Choice, Config, Float, Int, Space, When

SPACE = Space(
    (
        Choice(name="method", options=("probe", "lora")),
        Float(name="lr", low=1e-5, high=1e-1, log=True),
        Int(name="rank", low=1, high=64, log=True, when=(When("method", ("lora",)),)),
        Int(name="steps", low=0, high=100),
        Float(name="dropout", low=0.0, high=0.5),
    )
)
PROBE = SPACE.default()
LORA = SPACE.default(method="lora", rank=8, lr=3e-4)
DONE = Outcome(
    status="done",
    scores=(0.5, 0.7),
    mean=0.6,
    standard_error=0.1,
    cost_seconds=1.5,
    measures={"accuracy": 0.6, "log_loss": 0.9},
)
FAILED = Outcome(status="failed", reason="MemoryError: no room", cost_seconds=0.1)
STOPPED = Outcome(status="stopped", reason="out of time", cost_seconds=9.0)


@pytest.fixture(params=["folder", "sqlite"])
def location(request, tmp_path):
    return tmp_path if request.param == "folder" else f"sqlite:///{tmp_path}/db"


def fresh(location):
    return Ledger.open(location, study="toy", space=SPACE)


def same(left: Outcome, right: Outcome) -> bool:
    return left.to_json() == right.to_json()


def test_history_returns_exactly_what_was_recorded(location):
    ledger = fresh(location)
    # 1 where a Float is meant: the Config's key must survive
    odd = Config.of({**PROBE.to_json(), "dropout": 0})
    for config, outcome in [(PROBE, DONE), (LORA, FAILED), (odd, STOPPED)]:
        ledger.finish(ledger.start(config), outcome)
    for reader in (ledger, fresh(location)):
        history = reader.history()
        assert [config.key for config, _ in history] == [PROBE.key, LORA.key, odd.key]
        for (_, read), wrote in zip(history, [DONE, FAILED, STOPPED], strict=True):
            assert same(read, wrote)


def test_optuna_sees_params_values_and_states(location):
    import optuna

    ledger = fresh(location)
    for outcome in (DONE, FAILED, STOPPED):
        ledger.finish(ledger.start(LORA), outcome)
    ledger.start(PROBE)
    study = optuna.load_study(study_name="toy", storage=ledger._storage)
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE", "FAIL", "PRUNED", "RUNNING"]
    assert study.trials[0].params == LORA.to_json()
    assert study.best_trial.number == 0
    assert study.best_value == 0.6
    assert "rank" not in study.trials[3].params
    assert study.trials[0].distributions["lr"].log
    assert study.trials[1].user_attrs["outcome"]["reason"] == "MemoryError: no room"


def test_trials_of_a_dead_process_become_interrupted(location):
    ledger = fresh(location)
    ledger.finish(ledger.start(PROBE), DONE)
    ledger.start(LORA)
    resumed = fresh(location)
    assert resumed.interrupt_running() == 1
    assert resumed.interrupt_running() == 0
    (_, done), (_, stopped) = resumed.history()
    assert same(done, DONE)
    assert (stopped.status, stopped.reason) == ("stopped", INTERRUPTED)


def test_an_outcome_that_reached_the_disk_is_kept(location, monkeypatch):
    ledger = fresh(location)
    number = ledger.start(LORA)
    monkeypatch.setattr(Ledger, "_end", lambda *_: None)  # killed before the end
    ledger.finish(number, DONE)
    monkeypatch.undo()
    resumed = fresh(location)
    assert resumed.interrupt_running() == 0
    assert same(resumed.history()[0][1], DONE)


def test_notes_are_kept_and_replaced(location):
    ledger = fresh(location)
    plan = {"folds": 5, "names": ["a", None, 1.5]}
    for key, value in [("plan", plan), ("seconds", 1.0), ("seconds", 2.0)]:
        ledger.note(key, value)
    assert fresh(location).notes() == {"plan": plan, "seconds": 2.0}


def made(shape=(2, 5, 3)):
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def test_outputs_come_back_and_are_not_in_the_record(tmp_path, location):
    ledger = Ledger.open(location, study="toy", space=SPACE, folder=tmp_path / "here")
    outputs = made()
    number = ledger.start(PROBE)
    ledger.finish(number, replace(DONE, outputs=outputs))
    np.testing.assert_array_equal(ledger.outputs(PROBE), outputs)
    again = Ledger.open(location, study="toy", space=SPACE, folder=tmp_path / "here")
    np.testing.assert_array_equal(again.outputs(PROBE), outputs)
    assert again.history()[0][1].outputs is None
    assert same(again.history()[0][1], DONE)
    names = [path.name for path in (tmp_path / "here" / "predictions").iterdir()]
    assert names == [f"{PROBE.key}.safetensors"]
    with pytest.raises(LedgerError, match="must be running"):
        again.finish(number, replace(DONE, outputs=made((1, 5, 3))))
    np.testing.assert_array_equal(again.outputs(PROBE), outputs)


def test_outputs_reach_the_disk_before_their_trial_is_finished(tmp_path, monkeypatch):
    ledger = fresh(tmp_path)
    number = ledger.start(PROBE)
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError()))
    with pytest.raises(LedgerError, match="must be writable"):
        ledger.finish(number, replace(DONE, outputs=made()))
    assert ledger.history()[0][1].status == "running"
    assert list((tmp_path / "predictions").iterdir()) == []


@pytest.mark.parametrize("size", [None, 0, 9, 60])
def test_missing_and_damaged_outputs_are_errors_that_name_the_file(tmp_path, size):
    ledger = fresh(tmp_path)
    file = tmp_path / "predictions" / f"{PROBE.key}.safetensors"
    if size is not None:
        ledger.finish(ledger.start(PROBE), replace(DONE, outputs=made()))
        file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(LedgerError, match=re.escape(str(file))):
        ledger.outputs(PROBE)


def test_outputs_of_a_database_need_a_folder(tmp_path):
    ledger = fresh(f"sqlite:///{tmp_path}/db")
    number = ledger.start(PROBE)
    with pytest.raises(LedgerError, match="must have a folder"):
        ledger.finish(number, replace(DONE, outputs=made()))


def test_a_config_outside_the_space_is_refused(location):
    ledger = fresh(location)
    with pytest.raises(SpaceError):
        ledger.start(Config.of({"method": "full"}))
    assert ledger.history() == []


def test_another_space_in_a_database_is_a_clear_error(tmp_path):
    url = f"sqlite:///{tmp_path}/db"
    fresh(url).start(PROBE)
    wider = Space((Choice(name="method", options=("probe", "lora", "full")),))
    ledger = Ledger.open(url, study="toy", space=wider)
    with pytest.raises(LedgerError, match="another search space"):
        ledger.start(wider.default())


def test_a_file_is_no_location(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="must be a folder or a storage URL"):
        fresh(tmp_path / "file")


@pytest.mark.parametrize(
    "url", ["nonsense://x", "sqlite:////no/such/folder/db", "postgresql+none://x/y"]
)
def test_a_url_that_cannot_be_opened_is_a_user_error(url):
    with pytest.raises(UserError, match="that Optuna can open"):
        fresh(url)


def test_damage_before_the_last_line_is_an_error(tmp_path):
    ledger = fresh(tmp_path)
    ledger.start(PROBE)
    ledger.note("x", 1)
    journal = tmp_path / "study.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([lines[0], lines[1][:20] + b"\n", *lines[2:]]))
    with pytest.raises(LedgerError, match="damaged before its last line"):
        fresh(tmp_path)


@pytest.mark.parametrize(("is_maximised", "value"), [(True, -0.7), (False, 0.7)])
def test_optuna_shows_the_metric_in_its_own_direction(location, is_maximised, value):
    import optuna

    own = {"metric": "log_loss", "is_maximised": is_maximised}
    ledger = Ledger.open(location, study="toy", space=SPACE, **own)
    ledger.finish(ledger.start(PROBE), replace(DONE, mean=-0.7))
    ledger.finish(ledger.start(LORA), replace(DONE, mean=-0.9))
    study = optuna.load_study(study_name="toy", storage=fresh(location)._storage)
    assert (study.metric_names, study.best_value) == (["log_loss"], value)
    assert [outcome.mean for _, outcome in ledger.history()] == [-0.7, -0.9]


def test_a_study_of_several_objectives_is_not_ours(tmp_path):
    import optuna

    url, several = f"sqlite:///{tmp_path}/db", ["minimize", "maximize"]
    optuna.create_study(storage=url, study_name="toy", directions=several)
    with pytest.raises(LedgerError, match="must be one of ours"):
        fresh(url)


def test_optuna_is_not_heard(tmp_path, capfd):
    fresh(tmp_path).start(PROBE)
    assert capfd.readouterr() == ("", "")


def test_trials_ended_by_optunas_tools_are_readable(tmp_path):
    import optuna

    ledger = fresh(tmp_path)
    number = ledger.start(PROBE)
    optuna.load_study(study_name="toy", storage=ledger._storage).tell(
        number, state=optuna.trial.TrialState.FAIL
    )
    assert ledger.history()[0][1].status == "stopped"


def test_two_ledgers_may_write_to_one_journal(tmp_path):
    left, right = fresh(tmp_path), fresh(tmp_path)
    numbers = [ledger.start(PROBE) for _ in range(3) for ledger in (left, right)]
    assert numbers == list(range(6))
    right.finish(0, DONE)
    assert left.history()[0][1].is_done


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return a journal and, after each finish, its length then."""
    folder = tmp_path_factory.mktemp("whole")
    ledger = fresh(folder)
    journal = folder / "study.journal"
    marks = []
    for config, outcome in [(PROBE, DONE), (LORA, FAILED), (LORA, STOPPED)]:
        number = ledger.start(config)
        ledger.finish(number, outcome)
        marks.append((journal.stat().st_size, outcome))
    ledger.start(PROBE)
    return journal.read_bytes(), marks


class TestKilledAtAnyByte:
    """A journal cut anywhere opens, keeps what was acknowledged, and goes on."""

    def check(self, folder, whole, cut):
        content, marks = whole
        (folder / "study.journal").write_bytes(content[:cut])
        ledger = fresh(folder)
        acknowledged = [outcome for size, outcome in marks if size <= cut]
        history = [outcome for _, outcome in ledger.history()]
        for wrote, read in zip(acknowledged, history, strict=False):
            assert same(wrote, read)
        assert len(history) >= len(acknowledged)
        ledger.interrupt_running()
        number = ledger.start(LORA)
        ledger.finish(number, DONE)
        again = fresh(folder).history()
        assert number == len(history) == len(again) - 1
        assert same(again[-1][1], DONE)
        assert all(outcome.status != "running" for _, outcome in again)

    def test_around_every_end_of_line(self, tmp_path, whole):
        content, _ = whole
        ends = [i + 1 for i, byte in enumerate(content) if byte == 10]
        cuts = {0, 1, *(end + shift for end in ends for shift in (-2, -1, 0, 1))}
        for cut in sorted(cut for cut in cuts if cut <= len(content)):
            self.check(tmp_path, whole, cut)

    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(fraction=st.floats(0, 1))
    def test_anywhere(self, tmp_path, whole, fraction):
        self.check(tmp_path, whole, math.floor(fraction * len(whole[0])))

    @pytest.mark.slow
    def test_at_every_single_byte(self, tmp_path, whole):
        for cut in range(len(whole[0]) + 1):
            self.check(tmp_path, whole, cut)
