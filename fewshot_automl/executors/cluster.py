"""The executor that runs calls as tasks of a Ray cluster, on any of its machines."""

import logging
import os
import pickle
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fewshot_automl.errors import RunError, TrialError, UserError
from fewshot_automl.executors.executor import Finished
from fewshot_automl.executors.workers import dumped, run_pickled

ANSWER_SECONDS: Final = 20.0
"""How long the address of a cluster is waited for."""
LOSSES: Final = 3
"""Times that a call is run again because its worker or its machine was lost."""
CHECK_SECONDS: Final = 5.0
"""How often, while nothing ends, the cluster is asked whether calls can run at all."""
PATIENCE_SECONDS: Final = 120.0
"""How long it may be unable to: a machine that was lost may come back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What each of several calls side by side asks a cluster for."""

    cpus: int
    gpus: float = 0.0
    """A whole one, or a part of one that Ray's scheduler can add up."""

    def fits(self, node: Mapping[str, float]) -> int:
        """Return how many calls a machine with these resources runs side by side."""
        fitting = int(node.get("CPU", 0) // self.cpus)
        if self.gpus:
            each = int(1 / self.gpus) if self.gpus < 1 else 1
            fitting = min(fitting, int(node.get("GPU", 0)) * each)
        return fitting


def share_of(
    nodes: list[Mapping[str, float]], workers: int, *, with_gpus: bool
) -> Share:
    """Return the largest share with which so many calls run side by side.

    >>> share_of([{"CPU": 8.0}, {"CPU": 4.0}], 3, with_gpus=False)
    Share(cpus=4, gpus=0.0)
    >>> share_of([{"CPU": 8.0, "GPU": 1.0}], 4, with_gpus=True)
    Share(cpus=2, gpus=0.25)

    Raises:
        UserError: If the cluster cannot run as many; they would wait for ever.
    """
    most = int(max((node.get("CPU", 0) for node in nodes), default=0))
    gpus = [0.0]
    if with_gpus:
        gpus = [int(10_000 / part) / 10_000 for part in range(1, workers + 1)]
    for part in gpus:  # whole GPUs, if there are enough
        for cpus in range(most, 0, -1):
            share = Share(cpus=cpus, gpus=part)
            if sum(map(share.fits, nodes)) >= workers:
                return share
    has = {kind: sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU")}
    raise UserError(
        f"workers must be no more than the Ray cluster can run side by side, got "
        f"{workers} for {has['CPU']:.0f} CPUs and {has['GPU']:.0f} GPUs on "
        f"{len(nodes)} machines"
        f"{', each with a CPU and a part of a GPU' if with_gpus else ''}. "
        "Ask for fewer --workers, or wait for the machines."
    )


class RayTasks:
    """Runs each call as a task of a Ray cluster that somebody has started.

    A function is pickled by value into the object store once; a worker keeps that of
    its last call with all that it has loaded. A call whose worker or machine is lost
    runs again. One that takes all memory does not: Ray itself would repeat it for ever.
    """

    def __init__(
        self, workers: int = 2, *, gpus: Sequence[int] = (), address: str | None = None
    ) -> None:
        """Connect to the cluster; each call gets an equal share of its machines.

        Calls get a GPU or a part of one if this machine has `gpus`: a Config must give
        the same Outcome here and there. Without an address the
        cluster is that of `RAY_ADDRESS`, or the one that this machine is part of.

        Raises:
            UserError: If Ray is not installed, no cluster is found, or it is smaller
                than what is asked for.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise UserError(
                "The executor ray must have Ray installed, got none. Install it with: "
                "pip install 'fewshot-automl[ray]'"
            ) from error
        if workers < 1:
            raise UserError(f"workers must be 1 or more, got {workers}.")
        self._ray, self._is_ours = ray, not ray.is_initialized()
        if self._is_ours:
            where = address or os.environ.get("RAY_ADDRESS") or "auto"
            host, _, port = where.removeprefix("ray://").rpartition(":")
            try:
                if port.isdigit():  # Ray itself tries for minutes, and may then abort
                    socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
                ray.init(where, log_to_driver=False, logging_level=logging.ERROR)
            except (OSError, RuntimeError, ValueError) as error:
                raise UserError(
                    f"The executor ray must find a cluster, got none at {where!r} "
                    f"({error}). Start one with: ray start --head, or give --address."
                ) from error
        self._calls: dict[Any, tuple[int, tuple[Any, ...], int]] = {}  # by what comes
        self._function: tuple[Callable[..., Any] | None, Any] = (None, None)
        self._submitted = 0
        try:
            nodes = self._nodes()
            self._share = share_of(nodes, workers, with_gpus=bool(gpus))
        except UserError:
            self.shutdown()
            raise
        self._task = ray.remote(
            num_cpus=self._share.cpus, num_gpus=self._share.gpus, max_retries=0
        )(_run)
        self.slots, self._machines = workers, len(nodes)

    def __str__(self) -> str:
        """Return a sentence for people; a cluster may be busy with other things."""
        free = self._ray.available_resources()
        gpus = f" and {self._share.gpus:g} GPUs" if self._share.gpus else ""
        return (
            f"Ray: {self.slots} trials side by side on {self._machines} machines, each "
            f"with {self._share.cpus} CPUs{gpus}; {free.get('CPU', 0):.0f} CPUs and "
            f"{free.get('GPU', 0):g} GPUs are free now."
        )

    def submit(self, function: Callable[..., Any], *arguments: Any) -> int:
        """Send a call to the cluster, which queues it if it is busy.

        A function that is submitted again is the one of the first time.
        """
        if function is not self._function[0]:
            self._function = function, self._ray.put(dumped(function))
        ticket = self._submitted
        self._submitted += 1
        self._send(ticket, (self._function[1], *arguments))
        return ticket

    def wait(self, timeout_seconds: float | None = None) -> list[Finished]:
        """Return what has ended; what was lost runs again.

        Raises:
            RunError: If for minutes no machine is left that calls could run on.
        """
        start = able = time.monotonic()
        while self._calls:
            now = time.monotonic()
            left = CHECK_SECONDS
            if timeout_seconds is not None:
                left = min(left, max(0.0, start + timeout_seconds - now))
            pending = list(self._calls)
            done, _ = self._ray.wait(pending, num_returns=len(pending), timeout=0)
            if not done:
                done, _ = self._ray.wait(pending, timeout=left)
            if finished := [one for one in map(self._collect, done) if one]:
                return finished
            if timeout_seconds is not None and now - start >= timeout_seconds:
                return []
            if any(map(self._share.fits, self._nodes())):
                able = now
            elif now - able > PATIENCE_SECONDS:
                raise RunError(
                    "The Ray cluster must have a machine that trials can run on, got "
                    f"none for {PATIENCE_SECONDS:.0f} s. Mend it, and go on with: "
                    "fewshot resume"
                )
        return []

    def shutdown(self) -> None:
        """Stop all calls, and leave a cluster that was entered by this executor."""
        for reference in self._calls:
            self._ray.cancel(reference, force=True)
        self._calls.clear()
        self._function = None, None
        if self._is_ours and self._ray.is_initialized():
            self._ray.shutdown()

    def _send(self, ticket: int, call: tuple[Any, ...], losses: int = 0) -> None:
        function, *arguments = call
        # In a list the reference is passed on as it is: a worker may hold the function.
        reference = self._task.remote([function], *arguments)
        self._calls[reference] = ticket, call, losses

    def _collect(self, reference: Any) -> Finished | None:
        """Return how a call ended; None if it was lost and runs again."""
        from ray import exceptions

        ticket, call, losses = self._calls.pop(reference)
        error: BaseException | None = None
        value = None
        try:
            # By value: what Ray unpickles itself is read-only.
            value, error = pickle.loads(self._ray.get(reference))  # noqa: S301  ours
        except exceptions.OutOfMemoryError:
            error = TrialError("the worker process was killed for want of memory")
        except (
            exceptions.WorkerCrashedError,
            exceptions.NodeDiedError,
            exceptions.ObjectLostError,
        ) as lost:
            if losses < LOSSES:
                self._send(ticket, call, losses + 1)
                return None
            kind = type(lost).__name__
            error = TrialError(f"its worker was lost {losses + 1} times ({kind})")
        except exceptions.RayError as failed:
            error = TrialError(f"{type(failed).__name__}: {failed}")
        return Finished(ticket=ticket, value=value, error=error)

    def _nodes(self) -> list[Mapping[str, float]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]


# What follows runs in the worker.


def _run(function: list[Any], *arguments: Any) -> bytes:
    """Return the pickled value of a call, and what it raised."""
    import ray

    value, error = None, None
    try:
        key = function[0].hex()
        value = run_pickled(key, lambda: ray.get(function[0]), *arguments)
    except BaseException as raised:  # noqa: BLE001  it is sent back
        error = raised
    return pickle.dumps((value, error))
