"""A real `fewshot fit` is killed with SIGKILL and loses nothing."""

import json
import random
import signal
import subprocess
import time
from pathlib import Path

from fewshot_automl.predictor import Predictor
from fewshot_automl.space import Config

KILLS = 1
TRIALS = 6
METHODS = ("majority", "tfidf", "prototype", "probe", "contrastive")


def fit(home: Path, start) -> subprocess.Popen:
    return start(
        *("fit", "train.csv", "--target", "label", "--out", "run"),
        *("--budget", "none", "--trials", str(TRIALS), "--oracle", "sobol"),
        *("--backbones", "tiny-bert", "--methods", ",".join(METHODS)),
    )


def resume(start) -> subprocess.Popen:
    return start("resume", "run", "--json")


def kill_after_progress(process: subprocess.Popen, home: Path, luck: random.Random):
    """Wait until another trial has ended, then a little, then kill."""
    journal = home / "run" / "study.journal"

    def ended() -> int:
        text = journal.read_bytes() if journal.exists() else b""
        return text.count(b'"op_code":6')  # Optuna sets a trial's state

    before = ended()
    while process.poll() is None and ended() < before + 2:  # one was interrupted
        time.sleep(0.002)
    time.sleep(luck.uniform(0.0, 0.1))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, (home / "said.txt").read_text()


def test_a_fit_killed_at_a_random_moment_loses_nothing(home, start, trials_of):
    luck = random.Random(7)
    known: dict[int, tuple[Config, dict]] = {}
    for kill in range(KILLS):
        kill_after_progress(
            fit(home, start) if kill == 0 else resume(start), home, luck
        )
        for number, (config, outcome) in enumerate(trials_of(home / "run")):
            if outcome.status in ("done", "failed"):
                row = (config, outcome.to_json())
                assert known.setdefault(number, row) == row
        assert sum(row["status"] == "done" for _, row in known.values()) < TRIALS
    assert resume(start).wait() == 0, (home / "said.txt").read_text()

    final = trials_of(home / "run")
    for number, (config, row) in known.items():
        assert final[number][0] == config
        assert final[number][1].to_json() == row
    ended = [config for config, outcome in final if outcome.status != "stopped"]
    assert len(ended) == len(set(ended)) == TRIALS
    assert len(final) - len(ended) <= KILLS
    assert len(known) > 0
    kept = home / "run" / "predictions"
    for config, outcome in final:
        if outcome.is_done:
            assert (kept / f"{config.key}.safetensors").exists()
    assert Predictor.load(home / "run").predict(["a good film"]) in (["good"], ["bad"])
    answer = json.loads((home / "said.txt").read_text().splitlines()[-1])
    assert answer["trials"]["done"] + answer["trials"]["failed"] == TRIALS
