"""The executor that runs each call in all of several processes that train together."""

import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED
from concurrent.futures import wait as wait_for
from datetime import timedelta
from typing import Any, Final

from fewshot_automl import group
from fewshot_automl.errors import RunError, TrialError, UserError
from fewshot_automl.executors.executor import Finished
from fewshot_automl.executors.workers import (
    GPUS,
    Pickled,
    Worker,
    die_with,
    held,
    run_held,
    shares,
)

GRACE: Final = timedelta(seconds=30)
"""How long after the end of a call in one process it may go on in another."""
SOON: Final = 2.0
"""Seconds in which the death of a process is known to the one that started it."""


class Parted(TrialError):
    """The processes are no longer at the same point, and must be started anew."""


class Ranks:
    """Runs a call in several processes at once and returns what the first made of it.

    The processes share one `torch.distributed` group and keep what they have loaded
    from call to call. If one dies, the call under way has failed and all are started
    anew. Under torchrun or ``accelerate launch`` those that were launched take part;
    the first of them, which runs the study, starts a process to train in its place.
    """

    slots = 1
    _has_adopted = False

    def __init__(self, workers: int = 2, *, gpus: int = 0) -> None:
        """Prepare so many processes, which start with the first call."""
        started = group.launched()
        if workers < 2 or started not in (1, workers):
            raise UserError(
                f"processes must be {started if started > 1 else '2 or more'}, got "
                f"{workers}. Leave out --processes."
            )
        if 0 < gpus < workers:
            raise UserError(
                f"processes must be at most {gpus}, one for each GPU, got {workers}."
            )
        if self._has_adopted:
            raise RunError(
                "A launcher's processes can run one study, got a second. Launch it by "
                "itself."
            )
        self._is_launched = Ranks._has_adopted = started > 1
        self._has_lost = False
        environments = [{}] if self._is_launched else shares(workers, gpus)
        self._first, *self._others = map(Worker, environments)
        self._calls: deque[tuple[int, tuple[Any, ...]]] = deque()
        self._pickled = Pickled()
        self._submitted = 0

    def submit(self, function: Callable[..., Any], *arguments: Any) -> int:
        """Send a call to all processes, or keep it until they are free.

        Raises:
            RunError: If a process of a launcher has died.
        """
        if self._has_lost:
            raise RunError(
                "A process of the launcher has died, and only the launcher can start "
                "another. Go on with: fewshot resume."
            )
        pickled = self._pickled.of(function)
        ticket = self._submitted
        self._submitted += 1
        self._calls.append((ticket, (pickled, arguments)))
        self._dispatch()
        return ticket

    def wait(self, timeout_seconds: float | None = None) -> list[Finished]:
        """Return the call that all processes have finished, and give them the next."""
        if self._first.future is None:
            return []
        futures = [each.future for each in (self._first, *self._others) if each.future]
        done, _ = wait_for(futures, timeout_seconds, FIRST_COMPLETED)
        if not done:
            return []
        ticket, finished = self._first.ticket, None
        if self._first.future in done:
            finished = self._first.collect()
        if finished is None or self._first.pool is None or _is_parted(finished):
            seen = [] if finished is None else [finished.error]
            finished = Finished(ticket=ticket, error=self._why_parted(seen))
            self._stop()
            if self._is_launched:
                self._has_lost = True
                self._calls.clear()
        self._dispatch()
        return [finished]

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a call returns, or raise what it raises.

        Calls under way or waiting are given up.
        """
        if self._first.future is not None and not self._is_launched:
            self.shutdown()
        ticket = self.submit(function, *arguments)
        while True:
            for finished in self.wait():
                if finished.ticket == ticket:
                    if finished.error is not None:
                        raise finished.error
                    return finished.value

    def shutdown(self) -> None:
        """Forget all calls and end the processes; a later call starts new ones."""
        self._calls.clear()
        if self._is_launched and self._first.future is None and not self._has_lost:
            self._first.start(0, lead, None)
            wait_for([self._first.future], GRACE.total_seconds())
            self._has_lost = True
        self._stop()

    def _dispatch(self) -> None:
        if self._first.future is not None or not self._calls:
            return
        if any(each.future and each.future.done() for each in self._others):
            self._stop()  # one died idle, so no call is to blame
        if not self._is_launched and self._first.pool is None:
            self._start()
        ticket, call = self._calls.popleft()
        self._first.start(ticket, lead, *call)

    def _start(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        workers = (self._first, *self._others)
        for rank, worker in enumerate(workers):
            worker.variables = {
                **worker.variables,
                "RANK": str(rank),
                "LOCAL_RANK": "0",  # of GPUs it sees one
                "WORLD_SIZE": str(len(workers)),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "TORCHELASTIC_USE_AGENT_STORE": "False",
            }
        for worker in self._others:
            worker.start(0, serve)

    def _stop(self) -> None:
        for worker in (self._first, *self._others):
            worker.stop()

    def _why_parted(self, seen: list[BaseException | None]) -> BaseException:
        """Return what befell one of them; that it is gone, only the others say."""
        working = [one for one in (self._first, *self._others) if one.future]
        wait_for([one.future for one in working if one.future], SOON)
        ended = [one for one in working if one.future and one.future.done()]
        errors = [*seen, *(one.collect().error for one in ended)]
        known = [error for error in errors if error is not None]
        first_hand = (error for error in known if not isinstance(error, Parted))
        return next(first_hand, known[0] if known else Parted("they lost each other"))


def _is_parted(finished: Finished) -> bool:
    return isinstance(finished.error, Parted)


def serve_if_launched() -> None:
    """Take part in the trainings of the first process, and exit when it is over.

    Does nothing in the first process, and where no launcher started several. A study
    is one program: what stands after it in a script is run by the first alone.
    """
    if group.launched() == 1:
        return
    die_with(os.getppid())
    if group.number() == 0:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Each process sees one GPU, as the first: that is what a call is told to use.
    here = int(os.environ.get("LOCAL_RANK", "0"))
    known = os.environ.get(GPUS)
    os.environ[GPUS] = known.split(",")[here] if known else str(here)
    os.environ["LOCAL_RANK"] = "0"
    serve()
    sys.exit(0)


# What follows runs in the processes.


def lead(function: bytes | None, arguments: tuple[Any, ...] = ()) -> Any:
    """Run a call in all processes, as the first; without one the others end."""
    group.join()
    if function is None:
        return group.tell(None)
    group.tell((b"" if function in held else function, arguments))
    value, failed = None, None
    try:
        value = run_held(function, *arguments)
    except BaseException as error:  # noqa: BLE001  raised below
        failed = error
    if not group.have_met(GRACE):
        raise Parted(f"{failed or 'the processes have lost each other'}")
    if failed is not None:
        raise failed
    return value


def serve() -> None:
    """Run the calls of the first process until it ends them, or is gone."""
    group.join()
    while True:
        try:
            call = group.hear()
        except RuntimeError:  # who started the first one knows why
            return
        if call is None:
            return
        function, arguments = call
        why = ""
        try:
            run_held(function or next(iter(held)), *arguments)
        except BaseException as error:  # noqa: BLE001  the first one mostly has it too
            why = f"{type(error).__name__}: {error}"
        if not group.have_met(GRACE if why else group.PATIENCE):
            raise Parted(why or "the first process is gone")
