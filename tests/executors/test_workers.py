import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import loky
import pytest

from fewshot_automl.errors import TrialError, UserError
from fewshot_automl.executors import InProcess, WorkerProcesses


def die(name):
    os.kill(os.getpid(), getattr(signal, name))
    time.sleep(30)


class Heavy:
    """Counts in a file how often it is unpickled, and its calls since then."""

    def __init__(self, file, ballast=b""):
        self.file, self.ballast, self.calls = file, ballast, 0

    def __setstate__(self, state):
        self.__dict__.update(state)
        with self.file.open("a") as file:
            file.write("x")

    def __call__(self, number):
        self.calls += 1
        if number < 0:
            os._exit(1)
        return self.calls


class Fussy(Exception):
    """Cannot be made from one argument, hence not unpickled."""

    def __init__(self, left, right):
        super().__init__(f"{left} and {right}")


class Panic(BaseException):
    """Stands for a panic of Rust code, which is no Exception."""


def throw(error):
    raise Fussy(1, 2) if error is Fussy else error


def sleepy(seconds, file=None):
    time.sleep(seconds)
    if file:
        file.touch()
    return seconds


@pytest.fixture
def make():
    made = []

    def make(workers=1, **settings):
        made.append(WorkerProcesses(workers, **settings))
        return made[-1]

    yield make
    for executor in made:
        executor.shutdown()


def one(executor):
    """Return what the only call submitted came to."""
    (done,) = all_of(executor)
    return done


def all_of(executor):
    """Return what all calls came to, in order of submission."""
    finished = []
    while batch := executor.wait(60.0):
        finished += batch
    return sorted(finished, key=lambda done: done.ticket)


def values_of(executor):
    return [done.value for done in all_of(executor)]


def test_in_this_process_ctrl_c_is_not_a_result_but_a_panic_is():
    executor = InProcess()
    executor.submit(throw, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        executor.wait()
    assert executor.wait() == []
    executor.submit(throw, Panic("at the disco"))
    assert isinstance(one(executor).error, Panic)


def test_a_killed_worker_fails_its_own_call_and_is_replaced(make):
    executor = make(2)
    slow = executor.submit(sleepy, 1.0)
    killed = executor.submit(die, "SIGKILL")
    first, second = all_of(executor)
    assert (first.ticket, first.value) == (slow, 1.0)  # its neighbour lived
    assert second.ticket == killed
    assert isinstance(second.error, TrialError)
    assert "died with SIGKILL(-9), perhaps for want of memory" in str(second.error)
    for _ in range(2):
        executor.submit(sleepy, 0.0)
    assert values_of(executor) == [0.0, 0.0]


@pytest.mark.parametrize(
    ("call", "words"), [((die, "SIGTERM"), "SIGTERM"), ((os._exit, 3), "EXIT(3)")]
)
def test_the_reason_says_how_the_worker_died(make, call, words):
    executor = make()
    executor.submit(*call)
    assert words in str(one(executor).error)


def test_an_idle_worker_that_died_costs_no_call(make):
    executor = make()
    executor.submit(os.getpid)
    os.kill(one(executor).value, signal.SIGKILL)
    time.sleep(0.5)
    executor.submit(sleepy, 0.0)
    assert one(executor).value == 0.0


def test_a_worker_is_used_again_and_what_it_holds_too(make, tmp_path):
    file = tmp_path / "unpickled"
    executor = make()
    heavy = Heavy(file)
    for number in range(3):
        executor.submit(heavy, number)
    assert values_of(executor) == [1, 2, 3]
    assert len(file.read_text()) == 1
    executor.submit(Heavy(file, ballast=b"2"), 0)
    executor.submit(heavy, 0)
    assert values_of(executor) == [1, 1]  # another took its place
    executor.submit(heavy, -1)
    assert isinstance(one(executor).error, TrialError)
    executor.submit(heavy, 5)
    assert one(executor).value == 1  # by the successor


@pytest.mark.parametrize("known", ["1", None])
def test_workers_are_told_their_threads(make, monkeypatch, known):
    if known is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(loky, "cpu_count", lambda: 6)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", known)
    executor = make(2)
    executor.submit(os.getenv, "OMP_NUM_THREADS")
    assert one(executor).value == (known or "3")
    assert os.environ.get("OMP_NUM_THREADS") == known


@pytest.mark.parametrize(
    ("known", "gpus", "workers", "seen"),
    [
        (None, (0, 1), 3, ["0", "0", "1"]),
        ("3,GPU-ab", (0, 1), 2, ["3", "GPU-ab"]),
        ("3", (0,), 2, ["3", "3"]),
        (None, (), 1, [None]),
        (None, (1, 2), 2, ["1", "2"]),
        (None, (1,), 1, ["1"]),
    ],
)
def test_workers_share_out_the_gpus(make, monkeypatch, known, gpus, workers, seen):
    if known is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", known)
    executor = make(workers, gpus=gpus)
    for _ in range(workers):
        executor.submit(os.getenv, "CUDA_VISIBLE_DEVICES")
    assert sorted(values_of(executor), key=str) == seen
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == known


def test_what_cannot_be_pickled_is_a_failed_result_or_a_user_error(make):
    executor = make()
    executor.submit(lambda x, y: x + y, 1.0, 2.0)  # as of a notebook
    assert one(executor).value == 3.0
    executor.submit(sleepy, threading.Lock())
    assert isinstance(one(executor).error, pickle.PicklingError)
    executor.submit(throw, Fussy)
    error = one(executor).error
    assert isinstance(error, TrialError)
    assert str(error) == "Fussy: 1 and 2"
    with pytest.raises(UserError, match="must be picklable"):
        executor.submit(threading.Lock().acquire)


def test_waiting_ends_when_the_time_is_out(make, tmp_path):
    executor = make()
    executor.submit(sleepy, 30.0, tmp_path / "over")
    assert executor.wait(0.2) == []
    assert executor.wait(0.0) == []
    executor.shutdown()
    assert not (tmp_path / "over").exists()


def test_workers_do_not_outlive_a_killed_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, time\n"
        "from fewshot_automl.executors import WorkerProcesses\n"
        "executor = WorkerProcesses(1)\n"  # no guard of __main__ is needed
        "executor.submit(os.getpid)\n"
        "print(executor.wait()[0].value, flush=True)\n"
        "executor.submit(time.sleep, 60)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    with parent:
        worker = int(parent.stdout.readline())
        time.sleep(0.3)
        parent.kill()
    end = time.monotonic() + 30  # half of what it would sleep
    while is_running(worker):
        assert time.monotonic() < end
        time.sleep(0.05)


def is_running(process):
    """Return whether a process runs; a zombie nobody reaped does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_script_needs_no_main_guard(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from fewshot_automl.executors import WorkerProcesses\n"
        "print('once')\n"
        "def double(number):\n"
        "    return 2 * number\n"
        "workers = WorkerProcesses(1)\n"
        "workers.submit(double, 21)\n"
        "print(workers.wait()[0].value)\n"
        "workers.shutdown()\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.stdout.split() == ["once", "42"], done.stderr
