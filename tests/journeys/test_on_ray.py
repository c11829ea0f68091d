"""A `fewshot fit` on a real Ray cluster, whose worker and driver are killed."""

import signal
import time

import psutil
import pytest

from fewshot_automl.predictor import Predictor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
TRIALS = 8
METHODS = ("tfidf", "prototype", "probe", "contrastive", "lora")
COMMAND = (
    *("fit", "train.csv", "--target", "label", "--budget", "none"),
    *("--trials", str(TRIALS), "--oracle", "sobol", "--backbones", "tiny-bert"),
    *("--methods", ",".join(METHODS)),
)


def workers_in_a_trial():
    """Return the workers of a Ray cluster that run a task of our executor."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or [""]
        if words[0] == "ray::_run":
            found.append(process)
    return found


def wait_for(condition, process, said):
    while not (found := condition()):
        assert process.poll() is None, said.read_text()
        time.sleep(0.05)
    return found


def test_outcomes_are_the_same_whoever_is_killed(home, start, trials_of, ray_cluster):
    said = home / "said.txt"
    assert start(*COMMAND, "--out", "here").wait() == 0, said.read_text()
    here = {c: o for c, o in trials_of(home / "here") if o.is_done}

    where = ("--executor", "ray", "--workers", "2", "--address", ray_cluster)
    driver = start(*COMMAND, *where, "--out", "there")

    def ended():
        rows = trials_of(home / "there")
        return {n: (c, o.to_json()) for n, (c, o) in enumerate(rows) if o.is_done}

    wait_for(ended, driver, said)
    victim = wait_for(workers_in_a_trial, driver, said)[0]
    victim.kill()
    wait_for(lambda: len(ended()) >= 4, driver, said)
    known = ended()
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert len(known) < TRIALS
    assert start("resume", "there").wait() == 0, said.read_text()

    final = trials_of(home / "there")
    for number, (config, row) in known.items():
        assert final[number][0] == config
        assert final[number][1].to_json() == row
    done = {c: o for c, o in final if o.is_done}
    stopped = [o.reason for _, o in final if o.status == "stopped"]
    assert len(done) == TRIALS == len(final) - len(stopped)  # nothing failed, or twice
    assert len(stopped) <= 2
    assert set(stopped) <= {"interrupted"}
    both = here.keys() & done.keys()
    assert len(both) >= TRIALS - 2  # an opening may follow another order
    for config in both:
        assert done[config].mean == pytest.approx(here[config].mean, abs=1e-6)
        assert done[config].scores == pytest.approx(here[config].scores, abs=1e-6)
    assert Predictor.load(home / "there").predict(["a good film"])
