"""What an executor is: something that runs a function somewhere.

An executor knows nothing of what it runs. It takes a function with its arguments and
gives back what the function returned or raised; a worker that dies is one failed
result, never a crash or a hang of whoever waits. No clock and no path of one machine
crosses: a call is told how many seconds it has, and counts them itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Ticket:
    """Stands for one submitted call."""

    number: int
    """Counts the calls of one executor from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Says how a submitted call ended."""

    ticket: Ticket
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
        ...

    def submit(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        allowance_seconds: float | None,
    ) -> Ticket:
        """Take the call ``function(*arguments, allowance_seconds)``.

        It runs now or at the next `wait`.

        Raises:
            UserError: If the call cannot be sent to where it would run.
        """
        ...

    def wait(self, timeout_seconds: float | None = None) -> list[Finished]:
        """Return the calls that ended since the last time, at least one if any can.

        Args:
            timeout_seconds: How long to wait for a first one; without end if None.
                An executor that runs calls inside `wait` does not heed it.

        Returns:
            Empty if nothing was submitted or the time ran out.
        """
        ...

    def shutdown(self) -> None:
        """Stop everything that still runs and let go of all workers."""
        ...
