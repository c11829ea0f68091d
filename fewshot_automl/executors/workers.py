"""The executor that runs calls in worker processes of this machine, by loky."""

import os
import pickle
import re
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from typing import Any, Final

from fewshot_automl.errors import TrialError, UserError
from fewshot_automl.executors.executor import Finished

GPUS: Final = "CUDA_VISIBLE_DEVICES"
_THREADS: Final = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


@dataclass(slots=True)
class Worker:
    """One worker process: a pool of its own, so that its death harms no other call."""

    variables: dict[str, str]
    """Of its environment: which GPU and how many threads to use."""
    pool: Any = None
    """None until it has its first call, and after its death."""
    ticket: int = 0
    """What it works on, if there is a future."""
    future: Future[Any] | None = None
    """None while it is idle."""

    def start(self, ticket: int, run: Callable[..., Any], *call: Any) -> None:
        """Begin a call in the process, which is started if need be."""
        from loky import ProcessPoolExecutor

        self.ticket = ticket
        self.pool = self.pool or ProcessPoolExecutor(
            1, env=self.variables, initializer=_settle, initargs=(os.getpid(),)
        )
        self.future = self.pool.submit(run, *call)

    def collect(self) -> Finished:
        """Return how its call ended, which may be by its death."""
        from loky.process_executor import BrokenProcessPool

        assert self.future is not None
        error, value = self.future.exception(), None
        if error is None:
            value = self.future.result()
        elif isinstance(error, BrokenProcessPool):
            self.stop()
            # loky names signals and exit codes
            codes = re.search(r"exit codes of the workers are \{(.+?)\}", str(error))
            how = codes[1] if codes else f"{type(error).__name__}: {error}"
            hint = ", perhaps for want of memory" if "SIGKILL" in how else ""
            error = TrialError(f"the worker process died with {how}{hint}")
        self.future = None
        return Finished(ticket=self.ticket, value=value, error=error)

    def stop(self) -> None:
        """Kill the process."""
        if self.pool is not None:
            self.pool.shutdown(wait=True, kill_workers=True)
        self.pool = self.future = None


def usable_cores() -> int:
    """Return how many cores this process may use, as affinity and containers allow."""
    from loky import cpu_count

    return int(cpu_count())


class WorkerProcesses:
    """Runs each call in one of a few worker processes of this machine.

    Functions must be picklable by cloudpickle. A worker keeps its imports from call to
    call, and the function of its last call with all that it has loaded. One that dies
    fails its own call and is replaced.
    """

    def __init__(self, workers: int = 2, *, gpus: Sequence[int] = ()) -> None:
        """Prepare the workers; each starts with its first call.

        They share out the cores, unless `OMP_NUM_THREADS` is set. Of the GPUs with the
        given numbers each sees only one, as the first.
        """
        if workers < 1:
            raise UserError(f"workers must be 1 or more, got {workers}.")
        share = str(max(1, usable_cores() // workers))
        threads = dict.fromkeys(_THREADS, os.environ.get("OMP_NUM_THREADS") or share)
        known = os.environ.get(GPUS)
        names = [known.split(",")[i] if known else str(i) for i in gpus]
        self._workers = [
            Worker({**threads, GPUS: names[i % len(names)]} if names else threads)
            for i in range(workers)
        ]
        self.slots = workers
        self._function: tuple[Callable[..., Any] | None, bytes] = (None, b"")
        self._calls: deque[tuple[int, tuple[Any, ...]]] = deque()
        self._submitted = 0

    def submit(self, function: Callable[..., Any], *arguments: Any) -> int:
        """Send a call to a free worker, or keep it until one is free.

        A function that is submitted again is the one of the first time: what changed
        in it since is not sent.
        """
        if function is not self._function[0]:
            self._function = function, dumped(function)
        ticket = self._submitted
        self._submitted += 1
        self._calls.append((ticket, (self._function[1], *arguments)))
        self._dispatch()
        return ticket

    def wait(self, timeout_seconds: float | None = None) -> list[Finished]:
        """Return what the workers have finished, and give them the next calls."""
        busy = [worker for worker in self._workers if worker.future]
        futures = [worker.future for worker in busy if worker.future]
        done, _ = wait_for(futures, timeout_seconds, FIRST_COMPLETED)
        finished = [worker.collect() for worker in busy if worker.future in done]
        self._dispatch()
        return finished

    def shutdown(self) -> None:
        """Kill the workers and forget all calls."""
        self._calls.clear()
        for worker in self._workers:
            worker.stop()

    def _dispatch(self) -> None:
        from loky.process_executor import BrokenProcessPool

        for worker in self._workers:
            if worker.future is None and self._calls:
                ticket, call = self._calls.popleft()
                try:
                    worker.start(ticket, run_held, *call)
                except BrokenProcessPool:  # it died idle, so no call is to blame
                    worker.stop()
                    worker.start(ticket, run_held, *call)


def dumped(function: Callable[..., Any]) -> bytes:
    """Return a function's pickle; a UserError if it cannot be copied."""
    from cloudpickle import dumps

    try:
        pickled: bytes = dumps(function)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UserError(
            f"A call for other processes must be picklable, got {function!r} "
            f"({error}). Leave out what cannot be copied, or use --executor "
            "in_process."
        ) from error
    return pickled


# What follows runs in the worker.

held: dict[Hashable, Callable[..., Any]] = {}
"""The function of the last call by its key, with whatever it has loaded."""


def _settle(parent: int) -> None:
    """Make a worker leave Ctrl-C to its parent, and die with it."""
    from loky import process_executor

    # loky replaces a worker that grows by 300 MB; ours grow by their backbones.
    process_executor._USE_PSUTIL = False
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with(parent)


def die_with(parent: int) -> None:
    """Make this process end soon after its parent has."""
    import psutil

    def watch() -> None:
        # A dead parent is replaced on POSIX, and its number is free on Windows.
        while os.getppid() == parent and psutil.pid_exists(parent):
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_held(function: bytes, *arguments: Any) -> Any:
    """Return the value of a call of a pickled function; see `run_pickled`."""
    return run_pickled(function, lambda: function, *arguments)


def run_pickled(key: Hashable, fetch: Callable[[], bytes], *arguments: Any) -> Any:
    """Return the value of a call, or raise what can be pickled and back.

    The function's pickle is only fetched if the last call's function had another key.
    """
    try:
        if key not in held:
            held.clear()
            held[key] = pickle.loads(fetch())  # noqa: S301  our parent wrote it
        return held[key](*arguments)
    except BaseException as error:  # noqa: BLE001  raised below, without its frames
        failed: BaseException
        try:
            failed = pickle.loads(pickle.dumps(error))  # noqa: S301  just written
        except Exception:  # noqa: BLE001  any constructor may refuse in any way
            failed = TrialError(f"{type(error).__name__}: {error}")
    # A copy: loky keeps the last error, and with its frames all memory of the call.
    raise failed
