"""One child process: its parent's handle, and what runs inside it."""

import contextlib
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.context import SpawnProcess
from typing import Any, Final

from fewshot_automl.errors import TrialError
from fewshot_automl.executors.executor import Ticket

GPU_VARIABLE: Final = "CUDA_VISIBLE_DEVICES"
"""Names the GPUs that a process sees."""

_STOP_SECONDS: Final = 2.0
_THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Holds a pickled call: what is the same from call to call, and what is not."""

    ticket: Ticket
    """Stands for it."""
    function: bytes
    """What is called; often large, and sent to a worker once."""
    digest: bytes
    """Of `function`."""
    arguments: bytes
    """The tuple of its arguments."""


@dataclass(slots=True, kw_only=True)
class Worker:
    """Holds one child process, and the ticket of what it works on."""

    process: SpawnProcess
    """The child."""
    pipe: connection.Connection
    """Calls go down, results come up."""
    ticket: Ticket | None = None
    """What it works on; None while it is idle."""
    gpu: str | None = None
    """The only GPU it sees; None where it sees what its parent does."""
    holds: bytes = b""
    """Digest of the function it was last sent."""

    def send(self, call: Call) -> None:
        """Give it a call, with the function unless it holds that one."""
        self.ticket = call.ticket
        function = None if call.digest == self.holds else call.function
        with contextlib.suppress(OSError):  # it just died; the next wait says so
            self.pipe.send_bytes(pickle.dumps((function, call.arguments)))
            self.holds = call.digest

    @property
    def is_dead(self) -> bool:
        """Return whether the process has ended."""
        return self.process.exitcode is not None

    def bury(self) -> None:
        """Wait for the end of the process, or bring it about, and close the pipe."""
        self.process.join(_STOP_SECONDS)
        if not self.is_dead:
            self.process.kill()
            self.process.join()
        self.pipe.close()

    def epitaph(self) -> str:
        """Return how a buried worker died, in words."""
        code = self.process.exitcode
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            hint = ", perhaps for want of memory" if name == "SIGKILL" else ""
            return f"the worker process was killed by {name}{hint}"
        return f"the worker process ended by itself with exit code {code}"


def spawn(threads: int, gpu: str | None = None) -> Worker:
    """Start a child process that may use so many threads, and sees one GPU if named."""
    spawning = get_context("spawn")
    ours, theirs = spawning.Pipe()
    process = spawning.Process(target=_serve, args=(theirs,), name="fewshot worker")
    variables = dict.fromkeys(_THREAD_VARIABLES, str(threads))
    if gpu is not None:
        variables[GPU_VARIABLE] = gpu
    with _environment(variables):
        process.start()
    theirs.close()  # so that the end of the child is the end of the pipe
    return Worker(process=process, pipe=ours, gpu=gpu)


def _serve(pipe: connection.Connection) -> None:
    """Run calls until the parent closes the pipe or dies (in the child process)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_die_with_parent, daemon=True).start()
    bench = _Bench()
    while True:
        try:
            message = pipe.recv_bytes()
        except EOFError:
            return
        pipe.send_bytes(_run(bench, message))


@dataclass(slots=True)
class _Bench:
    """Keeps the function of the last call, and with it whatever that has loaded."""

    function: Callable[..., Any] | None = None
    pickled: bytes = b""

    def call(self, message: bytes) -> Any:
        """Return the value of the call in a message of `Worker.send`."""
        pickled, arguments = pickle.loads(message)  # noqa: S301  our parent wrote it
        if pickled is not None:
            self.function, self.pickled = None, pickled
        if self.function is None:  # new, or it could not be unpickled the last time
            self.function = pickle.loads(self.pickled)  # noqa: S301  the same
            self.pickled = b""
        return self.function(*pickle.loads(arguments))  # noqa: S301  the same


def _run(bench: _Bench, message: bytes) -> bytes:
    """Return the pickled pair of value and error of a call."""
    try:
        return pickle.dumps((bench.call(message), None))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001  Rust's panics are no Exception
        return pickle.dumps((None, _portable(error)))


def _portable(error: BaseException) -> BaseException:
    """Return the error, or a plain one in words if it cannot be pickled and back."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  just written
    except Exception:  # noqa: BLE001  any constructor may refuse in any way
        return TrialError(f"{type(error).__name__}: {error}")
    return error


def _die_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the children started inside the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
