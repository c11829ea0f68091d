"""A study killed with SIGKILL at random moments loses nothing that was finished.

Run as a script it is the victim: a study on a toy function, as a command would run
it. Each time `Ledger.finish` has returned, the number goes to a side file.
"""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from fewshot_automl.executors import executor_named
from fewshot_automl.ledger import INTERRUPTED, Ledger
from fewshot_automl.oracle import SobolOracle
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Choice, Config, Float, Int, Space, When
from fewshot_automl.study import SECONDS_USED, Budget, Study, run

SPACE = Space(
    (
        Choice(name="method", options=("probe", "lora")),
        Float(name="lr", low=1e-5, high=1e-1, log=True),
        Int(name="rank", low=1, high=64, log=True, when=(When("method", ("lora",)),)),
    )
)
TRIALS = 30
OPENING = [SPACE.default(), SPACE.default(method="lora")]


@dataclass(frozen=True)
class SleepyScore:
    """Scores a Config after a nap."""

    seconds: float = 0.03

    def __call__(self, config: Config, allowance_seconds: float | None) -> Outcome:
        time.sleep(self.seconds)
        lr = float(config["lr"])
        if lr > 0.05:
            raise FloatingPointError("loss became NaN")
        return Outcome(
            status="done",
            mean=1 - lr,
            scores=(1 - lr,),
            cost_seconds=self.seconds,
            outputs=np.full((1, 50, 3), lr, dtype=np.float32),
        )


def victim(folder: str, way: str) -> None:
    """Start or resume the study in a folder, and run it to its end."""
    started = time.monotonic()
    side = os.open(f"{folder}/finished", os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def acknowledge(event):
        if event.kind == "finished":
            os.write(side, f"{event.number}\n".encode())
            os.fsync(side)

    ledger = Ledger.open(folder, study="toy", space=SPACE)
    ledger.interrupt_running()
    executor = executor_named(way, 1 if way == "in_process" else 2)
    used = ledger.notes().get(SECONDS_USED, 0.0)
    study = Study(
        space=SPACE,
        evaluate=SleepyScore(),
        oracle=SobolOracle(),
        ledger=ledger,
        executor=executor,
        budget=Budget(started=started, trials=TRIALS, used_before=used),
        opening=lambda history: OPENING,
        thinks_ahead=True,
        on_event=acknowledge,
    )
    run(study)
    executor.shutdown()


def start(folder: Path, way: str) -> subprocess.Popen:
    paths = (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", ""))
    return subprocess.Popen(
        [sys.executable, __file__, str(folder), way],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )


def killed_after_progress(folder: Path, way: str, luck: random.Random) -> bool:
    """Run the victim, kill it some time after its first step; say if it was alive."""
    journal = folder / "study.journal"
    size = journal.stat().st_size if journal.exists() else 0
    process = start(folder, way)
    while process.poll() is None:
        if journal.exists() and journal.stat().st_size > size:
            break
        time.sleep(0.002)
    time.sleep(luck.uniform(0.0, 0.15))
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def acknowledged(folder: Path) -> list[int]:
    side = folder / "finished"
    return [int(line) for line in side.read_text().split()] if side.exists() else []


@pytest.mark.parametrize(
    ("way", "at_once", "most_kills"),
    [
        ("in_process", 1, 2),
        pytest.param("in_process", 1, 10, marks=pytest.mark.slow),
        pytest.param("loky", 2, 10, marks=pytest.mark.slow),
        pytest.param("ray", 2, 3, marks=pytest.mark.slow),
    ],
)
def test_nothing_finished_is_lost_and_nothing_done_twice(
    tmp_path, way, at_once, most_kills, request, monkeypatch
):
    if way == "ray":
        monkeypatch.setenv("RAY_ADDRESS", request.getfixturevalue("ray_cluster"))
    luck = random.Random(way)
    kills = 0
    known: dict[int, tuple[Config, dict]] = {}
    while kills < most_kills:
        assert killed_after_progress(tmp_path, way, luck), "it ran to its end"
        kills += 1
        ledger = Ledger.open(tmp_path, study="toy", space=SPACE)
        history = ledger.history()
        for config, outcome in history:
            if outcome.is_done:  # what is marked finished has its outputs
                assert (ledger.outputs(config) == np.float32(float(config["lr"]))).all()
        for number in acknowledged(tmp_path):
            config, outcome = history[number]
            assert outcome.status in ("done", "failed")
            row = (config, outcome.to_json())
            assert known.setdefault(number, row) == row
    assert start(tmp_path, way).wait() == 0

    ledger = Ledger.open(tmp_path, study="toy", space=SPACE)
    history = ledger.history()
    assert all(history[n][0] == config for n, (config, _) in known.items())
    ended = [point for point, outcome in history if outcome.status != "stopped"]
    assert len(ended) == len(set(ended)) == TRIALS
    assert ended[:2] == OPENING or way != "in_process"
    assert set(OPENING) <= set(ended)
    stopped = [outcome for _, outcome in history if outcome.status == "stopped"]
    assert all(outcome.reason == INTERRUPTED for outcome in stopped)
    assert len(stopped) <= kills * at_once
    assert len(acknowledged(tmp_path)) == len(set(acknowledged(tmp_path)))
    assert ledger.notes()[SECONDS_USED] > 0
    if way == "in_process":
        assert ended == uninterrupted(tmp_path / "whole")


def uninterrupted(folder: Path) -> list[Config]:
    """Return the Configs of a study that nobody killed."""
    folder.mkdir()
    victim(str(folder), "in_process")
    history = Ledger.open(folder, study="toy", space=SPACE).history()
    return [config for config, _ in history]


if __name__ == "__main__":
    victim(sys.argv[1], sys.argv[2])
