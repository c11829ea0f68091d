"""The executor that runs calls one after the other in this process."""

from collections import deque
from collections.abc import Callable
from typing import Any

from fewshot_automl.errors import UserError
from fewshot_automl.executors.executor import Finished, Ticket


class InProcess:
    """Runs a call inside `wait`, in the thread that calls it.

    Nothing is copied, and a `KeyboardInterrupt` in the function leaves `wait`.
    """

    def __init__(self, workers: int = 1, *, gpus: int = 0) -> None:
        """Check that nobody asks for more than one worker.

        Args:
            workers: Must be 1.
            gpus: Not used; the call sees what this process sees.
        """
        if workers != 1:
            raise UserError(
                f"workers must be 1 for the executor in_process, got {workers}. "
                "Use the executor loky."
            )
        self._calls: deque[tuple[Ticket, Callable[..., Any], tuple[Any, ...]]] = deque()
        self._submitted = 0

    @property
    def slots(self) -> int:
        """Return 1."""
        return 1

    def submit(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        allowance_seconds: float | None,
    ) -> Ticket:
        """Take a call; it runs at a later `wait`."""
        ticket = Ticket(self._submitted)
        self._submitted += 1
        self._calls.append((ticket, function, (*arguments, allowance_seconds)))
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
