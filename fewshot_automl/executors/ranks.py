"""The executor that runs each call in all of several processes that train together."""

import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED
from concurrent.futures import wait as wait_for
from datetime import timedelta
from typing import Any, Final

from fewshot_automl import group
from fewshot_automl.errors import RunError, TrialError, UserError
from fewshot_automl.executors.executor import Finished
from fewshot_automl.executors.workers import (
    GPUS,
    Worker,
    WorkerProcesses,
    die_with,
    held,
    run_held,
)

GRACE: Final = timedelta(seconds=30)
"""How long after the end of a call in one process it may go on in another."""
SOON: Final = 2.0
"""Seconds in which the death of a process is known to the one that started it."""


class Parted(TrialError):
    """The processes are no longer at the same point, and must be restarted."""


class Ranks(WorkerProcesses):
    """Runs a call in several processes at once and returns what the first made of it.

    They share one `torch.distributed` group. If one dies, the call under way has failed
    and all are restarted. Under torchrun or ``accelerate launch`` those that were
    launched take part; the first, which runs the study, starts one in its place.
    """

    _is_taken = False

    def __init__(self, workers: int = 2, *, gpus: Sequence[int] = ()) -> None:
        """Prepare so many processes, which start with the first call."""
        started = group.launched()
        allowed = f"{started}, as launched" if started > 1 else "2 or more"
        is_crowded = started == 1 and 0 < len(gpus) < workers
        if is_crowded:  # launched ones may be on other machines
            allowed += f", with a GPU each, of which there are {len(gpus)}"
        if workers < 2 or started not in (1, workers) or is_crowded:
            raise UserError(
                f"processes must be {allowed}, got {workers}. Change --processes."
            )
        if Ranks._is_taken:
            raise RunError("Launched processes can run one study. Launch the next.")
        super().__init__(workers, gpus=gpus)
        self.slots = 1
        self._is_launched = Ranks._is_taken = started > 1
        self._is_over = False
        if self._is_launched:
            self._workers = [Worker({})]

    def submit(self, function: Callable[..., Any], *arguments: Any) -> int:
        """Send a call to all processes, or keep it until they are free.

        Raises:
            RunError: If a launched process has died.
        """
        if self._is_over:
            raise RunError(
                "A launched process has died, and only its launcher can start another. "
                "Go on with: fewshot resume."
            )
        return super().submit(function, *arguments)

    def wait(self, timeout_seconds: float | None = None) -> list[Finished]:
        """Return the call that all processes have finished, and give them the next."""
        first = self._workers[0]
        if first.future is None:
            return []
        futures = [each.future for each in self._workers if each.future]
        done, _ = wait_for(futures, timeout_seconds, FIRST_COMPLETED)
        if not done:
            return []
        ticket, finished = first.ticket, None
        if first.future in done:
            finished = first.collect()
        error = finished.error if finished else None
        if finished is None or first.pool is None or isinstance(error, Parted):
            finished = Finished(ticket=ticket, error=self._why_parted(error))
            self._stop()
            self._is_over = self._is_launched
        if not self._is_over:
            self._dispatch()
        return [finished]

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a call returns, or raise; what is under way is given up."""
        if self._workers[0].future is not None and not self._is_launched:
            self.shutdown()
        ticket = self.submit(function, *arguments)
        while (finished := self.wait()[0]).ticket != ticket:
            pass
        if finished.error is not None:
            raise finished.error
        return finished.value

    def shutdown(self) -> None:
        """Forget all calls and end the processes; a later call starts new ones."""
        self._calls.clear()
        first = self._workers[0]
        if self._is_launched and first.future is None and not self._is_over:
            first.start(0, lead, b"")
            self.wait(GRACE.total_seconds())
        self._is_over = self._is_launched
        self._stop()

    def _dispatch(self) -> None:
        first, *others = self._workers
        if first.future is not None or not self._calls:
            return
        if any(each.future and each.future.done() for each in others):
            self._stop()  # one died idle, so no call is to blame
        if others and first.pool is None:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            for rank, worker in enumerate(self._workers):
                worker.variables = {
                    **worker.variables,
                    **{"RANK": str(rank), "WORLD_SIZE": str(len(self._workers))},
                    **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
                    "LOCAL_RANK": "0",  # of GPUs it sees one
                    "TORCHELASTIC_USE_AGENT_STORE": "False",
                }
            for worker in others:
                worker.start(0, serve)
        ticket, call = self._calls.popleft()
        first.start(ticket, lead, *call)

    def _stop(self) -> None:
        for worker in self._workers:
            worker.stop()

    def _why_parted(self, seen: BaseException | None) -> BaseException:
        """Return what befell one of them; the others only say that it is gone."""
        wait_for([each.future for each in self._workers if each.future], SOON)
        ended = [each for each in self._workers if each.future and each.future.done()]
        errors = [e for e in (seen, *(each.collect().error for each in ended)) if e]
        first_hand = (error for error in errors if not isinstance(error, Parted))
        return next(first_hand, errors[0] if errors else Parted("one is gone"))


def serve_if_launched() -> None:
    """Take part in the trainings of the first process, and exit when it is over.

    Does nothing but to die with the launcher in the first process, and nothing at all
    where no launcher started several.
    """
    if group.launched() == 1:
        return
    die_with(os.getppid())
    if group.number() == 0:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Each process sees one GPU, as the first: that is what a call is told to use.
    here, known = int(os.environ.get("LOCAL_RANK", "0")), os.environ.get(GPUS)
    os.environ[GPUS] = known.split(",")[here] if known else str(here)
    os.environ["LOCAL_RANK"] = "0"
    serve()
    sys.exit(0)


# What follows runs in the processes.


def lead(function: bytes, *arguments: Any) -> Any:
    """Run a call in all processes, as the first; without a function the others end."""
    group.join()
    if not function:
        return group.tell(None)
    group.tell((b"" if function in held else function, arguments))
    value, failed = None, None
    try:
        value = run_held(function, *arguments)
    except BaseException as error:  # noqa: BLE001  raised below
        failed = error
    if not group.have_met(GRACE):
        raise Parted(str(failed or "the processes have lost each other"))
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
