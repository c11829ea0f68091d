"""What a Ray cluster is asked for; and, marked slow, what becomes of lost workers."""

import os
import signal
import sys
import time

import numpy as np
import pytest

from fewshot_automl.errors import TrialError, UserError
from fewshot_automl.executors import RayTasks
from fewshot_automl.executors.cluster import LOSSES, Share, share_of

TWO = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 4.0, "GPU": 1.0}, {"memory": 1e9}]


@pytest.mark.parametrize(
    ("workers", "with_gpus", "share"),
    [
        (1, False, Share(cpus=8)),
        (2, False, Share(cpus=4)),
        (12, False, Share(cpus=1)),
        (3, True, Share(cpus=4, gpus=1.0)),
        (4, True, Share(cpus=2, gpus=0.5)),
        (9, True, Share(cpus=1, gpus=0.3333)),
    ],
)
def test_calls_share_out_the_machines(workers, with_gpus, share):
    assert share_of(TWO, workers, with_gpus=with_gpus) == share


@pytest.mark.parametrize(
    ("nodes", "workers", "with_gpus"),
    [(TWO, 13, False), (TWO[2:], 1, False), ([{"CPU": 8.0}], 1, True), ([], 1, False)],
)
def test_more_than_the_cluster_has_is_refused_at_once(nodes, workers, with_gpus):
    with pytest.raises(UserError, match="workers must be no more"):
        share_of(nodes, workers, with_gpus=with_gpus)


def test_without_ray_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'fewshot-automl\[ray\]'"):
        RayTasks(2)


class Doubled:
    """A function that holds data, as a trial's does."""

    def __init__(self, array):
        self.array = array

    def __call__(self):
        self.array *= 2  # what Ray unpickles itself cannot be written to
        return self.array


def die(folder, times):
    """Die by a signal so many times, then return how often it was tried."""
    tries = len(list(folder.iterdir()))
    (folder / str(tries)).touch()
    if tries < times:
        os.kill(os.getpid(), signal.SIGKILL)
    return tries + 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
class TestOnACluster:
    @pytest.fixture
    def executor(self, ray_cluster):
        executor = RayTasks(2, address=ray_cluster)
        yield executor
        executor.shutdown()

    def test_what_is_sent_and_comes_back_can_be_written_to(self, executor):
        array = np.ones(100_000)
        executor.submit(Doubled(array))
        (done,) = executor.wait()
        assert done.error is None
        value = done.value
        value += 1
        assert (value == 3).all()

    def test_a_call_whose_worker_died_runs_again(self, executor, tmp_path):
        executor.submit(die, tmp_path, 1)
        (done,) = executor.wait()
        assert done.value == 2

    def test_a_call_that_kills_every_worker_is_given_up(self, executor, tmp_path):
        executor.submit(die, tmp_path, 99)
        (done,) = executor.wait()
        assert isinstance(done.error, TrialError)
        assert "lost 4 times" in str(done.error)
        assert len(list(tmp_path.iterdir())) == LOSSES + 1

    def test_waiting_ends_when_the_time_is_out(self, executor):
        executor.submit(time.sleep, 60.0)
        assert executor.wait(0.2) == []

    def test_more_workers_than_cpus_are_refused(self, ray_cluster):
        with pytest.raises(UserError, match="got 3 for 2 CPUs"):
            RayTasks(3, address=ray_cluster)

    def test_no_cluster_is_a_user_error(self, ray_cluster):
        with pytest.raises(UserError, match="must find a cluster"):
            RayTasks(1, address="127.0.0.1:1")
