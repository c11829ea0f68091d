"""The executor that runs calls in child processes of this machine."""

import hashlib
import os
import pickle
import time
from collections import deque
from collections.abc import Callable
from multiprocessing import connection
from typing import Any, Final

from fewshot_automl.errors import TrialError, UserError
from fewshot_automl.executors.executor import Finished, Ticket
from fewshot_automl.executors.worker import GPU_VARIABLE, Call, Worker, spawn

_POLL_SECONDS: Final = 0.5


class LocalProcesses:
    """Runs each call in one of a few child processes of this machine.

    The children are spawned, so functions, arguments and results must be picklable. A
    child keeps its imports from call to call, and the function of its last call with
    all that it holds: the same one is sent once. One that dies is replaced. Each is
    told by environment variables which GPU and how many threads to use, before it
    imports anything.
    """

    def __init__(
        self, workers: int = 2, *, threads_each: int | None = None, gpus: int = 0
    ) -> None:
        """Prepare the workers; each starts with its first call.

        Args:
            workers: How many child processes.
            threads_each: Threads of numerical libraries in each child. None keeps
                `OMP_NUM_THREADS` where it is set, else shares the cores out.
            gpus: How many GPUs this process sees, of which each child shall see only
                its own, as the first. With 0 or 1 children see what it sees.
        """
        for name, count in (("workers", workers), ("threads_each", threads_each)):
            if count is not None and count < 1:
                raise UserError(f"{name} must be 1 or more, got {count}.")
        self._slots = workers
        self._threads_each = threads_each or _share_of_threads(workers)
        self._gpus = _names_of_gpus(gpus) if gpus > 1 else []
        self._workers: list[Worker] = []
        self._calls: deque[Call] = deque()
        self._submitted = 0

    @property
    def slots(self) -> int:
        """Return the number of child processes."""
        return self._slots

    def submit(self, function: Callable[..., Any], *args: Any) -> Ticket:
        """Send a call to a free child, or keep it until one is free.

        Raises:
            UserError: If the function or an argument cannot be pickled.
        """
        try:
            pickled, arguments = pickle.dumps(function), pickle.dumps(args)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise UserError(
                f"A call for other processes must be picklable, got {function!r} "
                f"({error}). Use a function at the top of a module."
            ) from error
        ticket = Ticket(self._submitted)
        self._submitted += 1
        digest = hashlib.sha256(pickled).digest()
        self._calls.append(
            Call(ticket=ticket, function=pickled, digest=digest, arguments=arguments)
        )
        self._dispatch()
        return ticket

    def wait(self, timeout_seconds: float | None = None) -> list[Finished]:
        """Return what the children have finished, and give them the next calls."""
        end = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while busy := [worker for worker in self._workers if worker.ticket]:
            left = _POLL_SECONDS if end is None else end - time.monotonic()
            # In slices: a grandchild may hold a dead child's pipe open for ever.
            connection.wait(
                [worker.pipe for worker in busy], max(0.0, min(left, _POLL_SECONDS))
            )
            finished = [done for w in busy if (done := self._collect(w)) is not None]
            self._dispatch()
            if finished or left <= 0:
                return finished
        return []

    def shutdown(self) -> None:
        """Terminate the children, kill those that do not obey, and forget all calls."""
        self._calls.clear()
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.bury()
        self._workers.clear()

    def _dispatch(self) -> None:
        while self._calls and (worker := self._free_worker()):
            worker.send(self._calls.popleft())

    def _free_worker(self) -> Worker | None:
        for worker in [w for w in self._workers if w.ticket is None]:
            if not worker.is_dead:
                return worker
            self._remove(worker)  # no call is to blame
        if len(self._workers) == self._slots:
            return None
        worker = spawn(self._threads_each, self._free_gpu())
        self._workers.append(worker)
        return worker

    def _free_gpu(self) -> str | None:
        """Return the GPU with the fewest children; None where they are not shared."""
        taken = [worker.gpu for worker in self._workers]
        return min(self._gpus, key=taken.count, default=None)

    def _collect(self, worker: Worker) -> Finished | None:
        """Return a busy worker's result, or its death; None while it works."""
        ticket = worker.ticket
        assert ticket is not None
        died = worker.is_dead  # asked before the pipe, which may hold its last word
        try:
            if worker.pipe.poll():
                value, error = worker.pipe.recv()
                worker.ticket = None
                return Finished(ticket=ticket, value=value, error=error)
        except (EOFError, OSError):
            died = True
        if not died:
            return None
        self._remove(worker)
        return Finished(ticket=ticket, error=TrialError(worker.epitaph()))

    def _remove(self, worker: Worker) -> None:
        self._workers.remove(worker)
        worker.bury()


def _names_of_gpus(count: int) -> list[str]:
    told = os.environ.get(GPU_VARIABLE)
    return told.split(",")[:count] if told else [str(gpu) for gpu in range(count)]


def _share_of_threads(workers: int) -> int:
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdigit() and int(told) > 0:
        return int(told)
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, cores // workers)
