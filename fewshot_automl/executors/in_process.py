"""The executor that needs no other process."""

from collections import deque
from collections.abc import Callable
from typing import Any

from fewshot_automl.errors import UserError
from fewshot_automl.executors.executor import Finished, Ticket


class InProcess:
    """Runs one call at a time, in this process, inside `wait`.

    >>> executor = InProcess()
    >>> ticket = executor.submit(pow, 2, 5)
    >>> [finished.value for finished in executor.wait()]
    [32]
    """

    def __init__(self, workers: int = 1, *, gpus: int = 0) -> None:
        """Prepare to run calls.

        Args:
            workers: Always 1.
            gpus: Of no account: calls see all that this process sees.
        """
        if workers != 1:
            raise UserError(
                f"workers must be 1 for the in_process executor, got {workers}. "
                "Use the executor processes."
            )
        self._calls: deque[tuple[Ticket, Callable[..., Any], tuple[Any, ...]]] = deque()
        self._submitted = 0

    @property
    def slots(self) -> int:
        """Return 1."""
        return 1

    def submit(self, function: Callable[..., Any], *args: Any) -> Ticket:
        """Take a call; it runs at a later `wait`."""
        ticket = Ticket(self._submitted)
        self._submitted += 1
        self._calls.append((ticket, function, args))
        return ticket

    def wait(self, timeout_seconds: float | None = None) -> list[Finished]:
        """Run the oldest waiting call to its end and return it."""
        if not self._calls:
            return []
        ticket, function, args = self._calls.popleft()
        try:
            return [Finished(ticket=ticket, value=function(*args))]
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  Rust's panics are no Exception
            return [Finished(ticket=ticket, error=error)]

    def shutdown(self) -> None:
        """Forget the calls that have not run."""
        self._calls.clear()
