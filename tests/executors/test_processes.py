import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fewshot_automl.errors import TrialError, UserError
from fewshot_automl.executors import LocalProcesses


def die(name):
    os.kill(os.getpid(), getattr(signal, name))
    time.sleep(30)


def leave(code):
    os._exit(code)


def threads():
    return os.environ["OMP_NUM_THREADS"]


def visible_gpu():
    return os.environ.get("CUDA_VISIBLE_DEVICES")


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


class Reluctant:
    """Is unpickled at the second attempt."""

    def __init__(self, file):
        self.file = file

    def __setstate__(self, state):
        self.__dict__.update(state)
        if not self.file.exists():
            self.file.touch()
            raise OSError("not yet")

    def __call__(self):
        return "here"


def process_id():
    return os.getpid()


def unpicklable():
    return lambda: None


class Fussy(Exception):
    """Cannot be made from one argument, hence not unpickled."""

    def __init__(self, left, right):
        super().__init__(f"{left} and {right}")


def fuss():
    raise Fussy(1, 2)


def sleepy(seconds):
    time.sleep(seconds)
    return seconds


def sleep_and_touch(seconds, file):
    time.sleep(seconds)
    file.touch()


def fork_and_die(survived):
    if os.fork() == 0:
        time.sleep(10)  # holds the pipes of its dead parent open
        survived.touch()
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def make():
    made = []

    def make(workers=1, **settings):
        made.append(LocalProcesses(workers, **settings))
        return made[-1]

    yield make
    for executor in made:
        executor.shutdown()


def one(executor):
    """Return what the only call submitted came to."""
    (done,) = all_of(executor)
    return done


def all_of(executor):
    """Return what all calls came to, in order of submission.

    Two that end at almost the same time come back from one `wait`.
    """
    finished = []
    while batch := executor.wait(60.0):
        finished += batch
    return sorted(finished, key=lambda done: done.ticket.number)


def values_of(executor):
    return [done.value for done in all_of(executor)]


def test_a_killed_worker_is_one_failed_result(make):
    executor = make(2)
    slow = executor.submit(sleepy, 1.0)
    killed = executor.submit(die, "SIGKILL")
    first, second = all_of(executor)
    assert (first.ticket, first.value) == (slow, 1.0)  # its neighbour lived
    assert second.ticket == killed
    assert isinstance(second.error, TrialError)
    assert "killed by SIGKILL, perhaps for want of memory" in str(second.error)
    executor.submit(abs, -3)
    assert one(executor).value == 3


@pytest.mark.parametrize(
    ("call", "words"),
    [((die, "SIGSEGV"), "killed by SIGSEGV"), ((leave, 3), "with exit code 3")],
)
def test_the_reason_says_how_the_worker_died(make, call, words):
    executor = make()
    executor.submit(*call)
    assert words in str(one(executor).error)


def test_a_grandchild_does_not_hide_a_death(make, tmp_path):
    executor = make()
    executor.submit(fork_and_die, tmp_path / "survived")
    assert "SIGKILL" in str(one(executor).error)
    assert not (tmp_path / "survived").exists()  # it was not waited for


def test_an_idle_worker_that_died_costs_no_call(make):
    executor = make()
    executor.submit(process_id)
    os.kill(one(executor).value, signal.SIGKILL)
    time.sleep(0.2)
    executor.submit(abs, -4)
    assert one(executor).value == 4


def test_a_worker_is_used_again(make):
    executor = make()
    executor.submit(process_id)
    executor.submit(process_id)
    first, second = values_of(executor)
    assert first == second != os.getpid()


@pytest.mark.parametrize("told", ["1", None])
def test_workers_are_told_their_threads(make, monkeypatch, told):
    if told is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", told)
    executor = make(2)
    executor.submit(threads)
    assert one(executor).value == (told or "3")
    assert os.environ.get("OMP_NUM_THREADS") == told
    explicit = make(1, threads_each=7)
    explicit.submit(threads)
    assert one(explicit).value == "7"


def test_a_function_is_sent_to_a_worker_once(make, tmp_path):
    file = tmp_path / "unpickled"
    heavy = Heavy(file, ballast=bytes(1_000_000))
    executor = make()
    for number in range(4):
        executor.submit(heavy, number)
    assert values_of(executor) == [1, 2, 3, 4]
    assert len(file.read_text()) == 1
    executor.submit(heavy, -1)
    assert isinstance(one(executor).error, TrialError)
    executor.submit(heavy, 5)
    assert one(executor).value == 1  # by the successor, which had to be sent it
    assert len(file.read_text()) == 2


def test_each_worker_unpickles_a_function_once(make, tmp_path):
    file = tmp_path / "unpickled"
    executor = make(2)
    for number in range(8):
        executor.submit(Heavy(file), number)
    assert values_of(executor).count(1) == len(file.read_text()) <= 2


def test_another_function_takes_the_place_of_the_first(make, tmp_path):
    file = tmp_path / "unpickled"
    first, second = Heavy(file), Heavy(file, ballast=b"2")
    executor = make()
    for heavy in (first, first, second, second, first):
        executor.submit(heavy, 0)
    assert values_of(executor) == [1, 2, 1, 2, 1]
    first.calls = 10  # changed here, hence another function there
    executor.submit(first, 0)
    assert one(executor).value == 11


def test_a_function_that_cannot_be_unpickled_is_tried_again(make, tmp_path):
    executor = make()
    reluctant = Reluctant(tmp_path / "attempt")
    executor.submit(reluctant)
    executor.submit(reluctant)
    first, second = all_of(executor)
    assert str(first.error) == "not yet"
    assert second.value == "here"


@pytest.mark.parametrize(
    ("told", "gpus", "workers", "seen"),
    [
        (None, 2, 2, ["0", "1"]),
        (None, 2, 3, ["0", "0", "1"]),
        ("3,GPU-ab", 2, 2, ["3", "GPU-ab"]),
        ("3", 1, 2, ["3", "3"]),
        (None, 0, 2, [None, None]),
    ],
)
def test_workers_share_out_the_gpus(make, monkeypatch, told, gpus, workers, seen):
    if told is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", told)
    executor = make(workers, gpus=gpus)
    for _ in range(workers):
        executor.submit(visible_gpu)
    assert sorted(values_of(executor), key=str) == seen
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == told


def test_the_successor_of_a_worker_gets_its_gpu(make, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6")
    executor = make(2, gpus=2)
    executor.submit(visible_gpu)
    executor.submit(die, "SIGKILL")
    assert values_of(executor) == ["5", None]
    executor.submit(sleepy, 0.2)
    executor.submit(visible_gpu)
    assert values_of(executor) == [0.2, "6"]


def test_what_cannot_be_pickled_is_a_failed_result_or_a_user_error(make):
    executor = make()
    executor.submit(unpicklable)
    assert isinstance(one(executor).error, (AttributeError, pickle.PicklingError))
    executor.submit(fuss)
    error = one(executor).error
    assert isinstance(error, TrialError)
    assert str(error) == "Fussy: 1 and 2"
    with pytest.raises(UserError, match="must be picklable"):
        executor.submit(lambda: None)


def test_waiting_ends_when_the_time_is_out(make, tmp_path):
    executor = make()
    executor.submit(sleep_and_touch, 30.0, tmp_path / "over")
    assert executor.wait(0.2) == []
    assert executor.wait(0.0) == []
    executor.shutdown()
    assert not (tmp_path / "over").exists()


def test_workers_do_not_outlive_a_killed_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, time\n"
        "from fewshot_automl.executors import LocalProcesses\n"
        "if __name__ == '__main__':\n"
        "    executor = LocalProcesses(1)\n"
        "    executor.submit(os.getpid)\n"
        "    print(executor.wait()[0].value, flush=True)\n"
        "    executor.submit(time.sleep, 60)\n"
        "    time.sleep(60)\n"
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
