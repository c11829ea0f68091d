"""A fit whose trainings are shared by two processes is killed, and loses nothing."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

from fewshot_automl.automl.record import read_record
from fewshot_automl.ledger import Ledger
from fewshot_automl.space import Space

FIT = (
    *("fit", "train.csv", "--target", "label", "--out", "run"),
    *("--budget", "none", "--trials", "3", "--oracle", "sobol"),
    *("--backbones", "tiny-bert", "--methods", "majority,lora,contrastive"),
)
TORCHRUN = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "-m")


@pytest.fixture
def run(home, places):
    """Return what starts a command of ours there, under torchrun if that is asked."""

    def run(launcher, *words):
        command = (sys.executable, *launcher, "fewshot_automl", *words)
        with (home / "said.txt").open("ab") as said:
            return subprocess.Popen(
                command, env=places, cwd=home, stdout=said, stderr=said
            )

    return run


def wait_until(is_so):
    end = time.monotonic() + 500
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "more"), [(("-m",), ("--processes", "2")), (TORCHRUN, ())]
)
def test_processes_die_with_the_first_and_resuming_loses_nothing(
    home, run, launcher, more
):
    def trials(*statuses):
        if not (home / "run" / "study.journal").exists():
            return {}
        name = read_record(home / "run")["name"]
        ledger = Ledger.open(home / "run", study=name, space=Space(()))
        every = enumerate(ledger.history())
        return {n: row for n, row in every if row[1].status in statuses}

    def is_training():
        running = trials("running").values()
        return any(config.text("method") != "majority" for config, _ in running)

    fit = run(launcher, *FIT, *more)
    wait_until(lambda: fit.poll() is not None or (trials("done") and is_training()))
    time.sleep(2.0)  # somewhere in the training
    family = psutil.Process(fit.pid).children(recursive=True)
    # Under torchrun the study runs in a child.
    first = next((p for p in family if "--out" in p.cmdline()), fit)
    assert len(family) >= 2
    known = trials("done")
    first.send_signal(signal.SIGKILL)
    assert fit.wait(60) != 0
    wait_until(lambda: not any(p.is_running() for p in family))

    (home / "said.txt").unlink()
    assert run(launcher, "resume", "run").wait() == 0, (home / "said.txt").read_text()
    ended = trials("done", "failed")
    assert len(ended) == len({config for config, _ in ended.values()}) == 3
    for number, (config, outcome) in known.items():
        assert ended[number][0] == config
        assert ended[number][1].to_json() == outcome.to_json()
    assert (home / "said.txt").read_text().count("Everything is in") == 1
    assert (home / "run" / "model").is_dir()
