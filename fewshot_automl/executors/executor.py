"""What an executor is, and the one that runs calls in this process.

An executor knows nothing of what it runs. It takes a function with its arguments and
gives back what the function returned or raised; a worker that dies is one failed
result, never a crash or a hang of whoever waits. No clock and no path of one machine
crosses: a call may be told how many seconds it has, and counts them itself.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from fewshot_automl.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Says how a submitted call ended."""

    ticket: int
    """What `submit` returned."""
    value: Any = None
    """What the function returned; None where it raised."""
    error: BaseException | None = None
    """What the function raised, or why its worker died."""


@runtime_checkable
class Executor(Protocol):
    """Runs functions somewhere, `slots` of them at a time."""

    @property
    def slots(self) -> int:
        """Return how many calls run at the same time; more than that wait."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> int:
        """Take a call, which runs now or at the next `wait`; return its ticket.

        Tickets count from 0.

        Raises:
            UserError: If the function cannot be sent to where it would run.
        """

    def wait(self, timeout_seconds: float | None = None) -> list[Finished]:
        """Return the calls that ended since the last time, at least one if any can.

        Args:
            timeout_seconds: How long to wait for a first one; without end if None.
                An executor that runs calls inside `wait` does not heed it.

        Returns:
            Empty if nothing was submitted or the time ran out.
        """

    def shutdown(self) -> None:
        """Stop everything that still runs and let go of all workers."""


class InProcess:
    """Runs a call inside `wait`, in the thread that calls it.

    Nothing is copied, and a `KeyboardInterrupt` in the function leaves `wait`.
    """

    slots = 1

    def __init__(self, workers: int = 1, *, gpus: Sequence[int] = ()) -> None:
        """Refuse more than one worker; what this process sees of GPUs, a call sees."""
        if workers != 1:
            raise UserError(
                f"workers must be 1 for the executor in_process, got {workers}. "
                "Use the executor loky."
            )
        self._calls: deque[tuple[int, Callable[..., Any], tuple[Any, ...]]] = deque()
        self._submitted = 0

    def submit(self, function: Callable[..., Any], *arguments: Any) -> int:
        """Take a call; it runs at a later `wait`."""
        ticket = self._submitted
        self._submitted += 1
        self._calls.append((ticket, function, arguments))
        return ticket

    def wait(self, timeout_seconds: float | None = None) -> list[Finished]:
        """Run the oldest waiting call to its end and return it."""
        if not self._calls:
            return []
        ticket, function, arguments = self._calls.popleft()
        try:
            return [Finished(ticket=ticket, value=function(*arguments))]
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  Rust's panics are no Exception
            return [Finished(ticket=ticket, error=error)]

    def shutdown(self) -> None:
        """Forget the calls that have not run."""
        self._calls.clear()
