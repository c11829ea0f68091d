"""Two fits work on one study in PostgreSQL; one of them is killed and resumed."""

import signal
import time
from collections import Counter

import pytest

from fewshot_automl.predictor import Predictor

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    # A pool of connections is left to the end of its process.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
TRIALS = 10
METHODS = ("tfidf", "prototype", "probe", "contrastive", "lora")


def test_two_fits_on_one_study(home, start, trials_of, postgres):
    said = home / "said.txt"

    def fit(name, *more):
        return start(
            *("fit", "train.csv", "--target", "label", "--budget", "none"),
            *("--trials", str(TRIALS), "--oracle", "sobol", "--out", name),
            *("--backbones", "tiny-bert", "--methods", ",".join(METHODS)),
            *("--storage", postgres, "--study", "both", *more),
        )

    left, right = fit("left"), fit("right")

    def ended():
        rows = trials_of(home / "left")
        return {n: (c, o.to_json()) for n, (c, o) in enumerate(rows) if o.is_done}

    while len(ended()) < 3:
        assert left.poll() is None, said.read_text()
        assert right.poll() is None, said.read_text()
        time.sleep(0.2)
    left.send_signal(signal.SIGKILL)
    left.wait()
    known = ended()
    assert right.wait() == 0, said.read_text()
    assert start("resume", "left").wait() == 0, said.read_text()

    final = trials_of(home / "left")
    for number, (config, row) in known.items():
        assert (final[number][0], final[number][1].to_json()) == (config, row)
    ended_rows = [c for c, o in final if o.status != "stopped"]
    assert max(Counter(ended_rows).values()) == 1
    assert len(ended_rows) == TRIALS
    stopped = [o.reason for _, o in final if o.status == "stopped"]
    assert stopped in ([], ["interrupted"])
    for name in ("left", "right"):
        assert Predictor.load(home / name).predict(["a good film"])
    wrong = fit("wrong", "--seed", "1")
    assert wrong.wait() == 2
    assert "must be of the same data" in said.read_text()
