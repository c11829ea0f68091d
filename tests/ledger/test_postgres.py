"""Two drivers on one study in PostgreSQL, which is started from Debian's package."""

import threading

import numpy as np
import pytest

from fewshot_automl.errors import LedgerError, UserError
from fewshot_automl.ledger import INTERRUPTED, Ledger
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config, Int, Space

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    # A pool of connections is left to the end of its process.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SPACE = Space((Int(name="x", low=0, high=999),))
DONE = Outcome(status="done", mean=0.5, scores=(0.5,))


def config(x):
    return Config.of({"x": x})


@pytest.fixture
def driver(postgres, request, tmp_path):
    def driver(name):
        folder = tmp_path / name
        study = request.node.name
        return Ledger.open(
            postgres, study=study, space=SPACE, folder=folder, driver=name
        )

    return driver


def test_a_config_is_started_once(driver):
    left, right = driver("left"), driver("right")
    assert left.start(config(1)) == 0
    assert right.start(config(1)) is None
    assert right.start(config(2)) == 1
    left.finish(0, DONE)
    assert right.start(config(1)) is None
    right.finish(1, Outcome(status="stopped", reason=INTERRUPTED))
    assert left.start(config(2)) == 2  # what was broken off may be tried again


def test_of_drivers_that_start_at_once_one_gets_each_config(driver):
    ledgers, got = [driver(f"d{n}") for n in range(3)], []

    def work(ledger):
        got.extend(n for x in range(8) if (n := ledger.start(config(x))) is not None)

    threads = [threading.Thread(target=work, args=(one,)) for one in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(8))
    assert sorted(c["x"] for c, _ in ledgers[0].history()) == list(range(8))


def test_only_trials_of_the_dead_are_interrupted(driver):
    left, right = driver("left"), driver("right")
    left.start(config(1))
    right.start(config(2))
    again = driver("left")  # after a crash
    assert again.interrupt_running() == 1
    assert [o.status for _, o in right.history()] == ["stopped", "running"]
    right._storage._backend.grace_period = again._storage._backend.grace_period = 1
    right._heart._trials.clear()
    threading.Event().wait(2.5)
    assert again.start(config(3)) == 2  # sees that the other one is silent
    assert [o.status for _, o in again.history()] == ["stopped", "stopped", "running"]
    with pytest.raises(LedgerError, match="must be running"):
        right.finish(1, DONE)


def test_outputs_are_there_for_all(driver):
    left, right = driver("left"), driver("right")
    outputs = np.random.default_rng(0).random((2, 30, 3), dtype=np.float32)
    number = left.start(config(1))
    left.finish(number, Outcome(status="done", mean=0.5, outputs=outputs))
    assert (right.outputs(config(1)) == outputs).all()
    assert (right._folder / "predictions").exists()
    with pytest.raises(LedgerError, match="must be a whole safetensors file"):
        right.outputs(config(2))


def test_some_notes_are_common_and_some_a_drivers_own(driver):
    left, right = driver("left"), driver("right")
    assert left.settle("plan", {"folds": 5}) == {"folds": 5}
    assert right.settle("plan", {"folds": 3}) == {"folds": 5}
    left.note("seconds", 1.0, is_own=True)
    right.note("seconds", 2.0, is_own=True)
    assert left.notes() == {"plan": {"folds": 5}, "seconds": 1.0}
    assert driver("right").notes()["seconds"] == 2.0


def test_a_server_that_is_not_there_is_a_user_error(postgres):
    nowhere = postgres.rpartition("/")[0].rpartition(":")[0] + ":1/none"
    with pytest.raises(UserError, match="Check its driver, host and rights"):
        Ledger.open(nowhere, study="toy", space=SPACE)
