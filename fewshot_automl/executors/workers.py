"""The executor that runs calls in worker processes of this machine, by loky."""

import os
import pickle
import re
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from typing import Any, Final

from fewshot_automl.errors import TrialError, UserError
from fewshot_automl.executors.executor import Finished, Ticket

_GPUS: Final = "CUDA_VISIBLE_DEVICES"
"""Names the GPUs that a process sees."""
_THREADS: Final = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


@dataclass(slots=True)
class _Worker:
    """One worker process: a pool of its own, so that its death harms no other call."""

    gpu: str | None
    """The only GPU it sees; None where it sees what its parent does."""
    pool: Any = None
    """None until it has its first call, and after its death."""
    ticket: Ticket | None = None
    """What it works on; None while it is idle."""
    future: Future[bytes] | None = None


class WorkerProcesses:
    """Runs each call in one of a few worker processes of this machine.

    Functions and arguments must be picklable by cloudpickle, results by pickle. A
    worker keeps its imports from call to call, and the function of its last call with
    all that it has loaded. One that dies fails its own call and is replaced. Each is
    told by environment variables which GPU and how many threads to use, before it
    imports anything.
    """

    def __init__(self, workers: int = 2, *, gpus: int = 0) -> None:
        """Prepare the workers; each starts with its first call.

        Args:
            workers: How many processes. They share out the cores, unless
                `OMP_NUM_THREADS` is set.
            gpus: How many GPUs this process sees, of which each worker shall see only
                one, as the first. With 0 or 1 workers see what it sees.
        """
        if workers < 1:
            raise UserError(f"workers must be 1 or more, got {workers}.")
        self._threads = str(_share_of_threads(workers))
        names = _names_of_gpus(gpus) if gpus > 1 else [None]
        self._workers = [_Worker(names[i % len(names)]) for i in range(workers)]
        self._function: tuple[Callable[..., Any] | None, bytes] = (None, b"")
        self._calls: deque[tuple[Ticket, tuple[bytes, bytes]]] = deque()
        self._submitted = 0

    @property
    def slots(self) -> int:
        """Return the number of worker processes."""
        return len(self._workers)

    def submit(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        allowance_seconds: float | None,
    ) -> Ticket:
        """Send a call to a free worker, or keep it until one is free.

        A function that is submitted again is the one of the first time: what changed
        in it since is not sent.

        Raises:
            UserError: If the function or an argument cannot be pickled.
        """
        from cloudpickle import dumps

        try:
            if function is not self._function[0]:
                self._function = function, dumps(function)
            call = self._function[1], dumps((*arguments, allowance_seconds))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise UserError(
                f"A call for other processes must be picklable, got {function!r} "
                f"({error}). Leave out what cannot be copied, or use --executor "
                "in_process."
            ) from error
        ticket = Ticket(self._submitted)
        self._submitted += 1
        self._calls.append((ticket, call))
        self._dispatch()
        return ticket

    def wait(self, timeout_seconds: float | None = None) -> list[Finished]:
        """Return what the workers have finished, and give them the next calls."""
        futures = [worker.future for worker in self._workers if worker.future]
        wait_for(futures, timeout_seconds, FIRST_COMPLETED)
        finished = [
            _collected(worker)
            for worker in self._workers
            if worker.future and worker.future.done()
        ]
        self._dispatch()
        return finished

    def shutdown(self) -> None:
        """Kill the workers and forget all calls."""
        self._calls.clear()
        for worker in self._workers:
            if worker.pool is not None:
                worker.pool.shutdown(wait=True, kill_workers=True)
            worker.pool = worker.ticket = worker.future = None

    def _dispatch(self) -> None:
        from loky.process_executor import BrokenProcessPool

        for worker in self._workers:
            if worker.future is None and self._calls:
                worker.ticket, call = self._calls.popleft()
                try:
                    worker.pool = worker.pool or self._pool(worker.gpu)
                    worker.future = worker.pool.submit(_run, *call)
                except BrokenProcessPool:  # it died idle, so no call is to blame
                    worker.pool = self._pool(worker.gpu)
                    worker.future = worker.pool.submit(_run, *call)

    def _pool(self, gpu: str | None) -> Any:
        from loky import ProcessPoolExecutor

        variables = dict.fromkeys(_THREADS, self._threads)
        if gpu is not None:
            variables[_GPUS] = gpu
        return ProcessPoolExecutor(
            max_workers=1, env=variables, initializer=_settle, initargs=(os.getpid(),)
        )


def _collected(worker: _Worker) -> Finished:
    """Return how the call of a worker ended, and free the worker."""
    ticket, future = worker.ticket, worker.future
    assert ticket is not None
    assert future is not None
    worker.ticket = worker.future = None
    died = future.exception()
    if died is None:
        value, error = pickle.loads(future.result())  # noqa: S301  our worker wrote it
        return Finished(ticket=ticket, value=value, error=error)
    worker.pool.shutdown(wait=True, kill_workers=True)
    worker.pool = None
    return Finished(ticket=ticket, error=TrialError(_cause_of_death(died)))


def _cause_of_death(error: BaseException) -> str:
    """Return how a worker died, in words; loky names signals and exit codes."""
    codes = re.search(r"exit codes of the workers are \{(.+?)\}", str(error))
    how = codes[1] if codes else f"{type(error).__name__}: {error}"
    hint = ", perhaps for want of memory" if "SIGKILL" in how else ""
    return f"the worker process died with {how}{hint}"


def _names_of_gpus(count: int) -> list[str | None]:
    known = os.environ.get(_GPUS)
    return [*known.split(",")[:count]] if known else [str(gpu) for gpu in range(count)]


def _share_of_threads(workers: int) -> int:
    known = os.environ.get("OMP_NUM_THREADS", "")
    if known.isdigit() and int(known) > 0:
        return int(known)
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, cores // workers)


# What follows runs in the worker.

_held: dict[bytes, Callable[..., Any]] = {}
"""The function of the last call by its pickle, with whatever it has loaded."""


def _settle(parent: int) -> None:
    """Make a worker leave Ctrl-C to its parent, and die with it."""
    from loky import process_executor

    # loky replaces a worker that grows by 300 MB; ours grow by their backbones.
    process_executor._USE_PSUTIL = False
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()


def _die_with(parent: int) -> None:
    import psutil

    # A dead parent is replaced on POSIX, and its number is free on Windows.
    while os.getppid() == parent and psutil.pid_exists(parent):
        time.sleep(0.2)
    os._exit(1)


def _run(function: bytes, arguments: bytes) -> bytes:
    """Return the pickled pair of value and error of a call."""
    try:
        if function not in _held:
            _held.clear()
            _held[function] = pickle.loads(function)  # noqa: S301  our parent wrote it
        value = _held[function](*pickle.loads(arguments))  # noqa: S301  the same
        return pickle.dumps((value, None))
    except BaseException as error:  # noqa: BLE001  Rust's panics are no Exception
        return pickle.dumps((None, _portable(error)))


def _portable(error: BaseException) -> BaseException:
    """Return the error, or a plain one in words if it cannot be pickled and back."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  just written
    except Exception:  # noqa: BLE001  any constructor may refuse in any way
        return TrialError(f"{type(error).__name__}: {error}")
    return error
