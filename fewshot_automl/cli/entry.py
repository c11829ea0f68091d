"""From words to an exit code: 0 done, 1 failed, 2 the user's to mend, 130 Ctrl-C."""

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Final, NoReturn

import click

from fewshot_automl.cli.app import app
from fewshot_automl.cli.quiet import quiet
from fewshot_automl.cli.session import Session, process_start, say
from fewshot_automl.errors import FewShotError, UserError

FAILED: Final = 1
USER_ERROR: Final = 2
INTERRUPTED: Final = 130
SPINS: Final = "1000"
"""Turns in which an OpenMP thread waits awake for others before it sleeps.

torch's default is 300 times that: beside other programs on 2 cores it made encoders 3
to 4 times slower, in CPU seconds too; this and none at all were as fast as one thread.
"""


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    started = process_start()
    if "OMP_WAIT_POLICY" not in os.environ:  # else the user has chosen
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    sys.exit(run(sys.argv[1:], started))


def run(arguments: Sequence[str], started: float | None = None) -> int:
    """Run a command and return its exit code; messages go to stderr.

    Args:
        arguments: The words after ``fewshot``. ``--debug`` may stand anywhere.
        started: `time.monotonic()` from which a budget counts; None for now.

    >>> run(["--version"])  # doctest: +ELLIPSIS
    fewshot ...
    0
    """
    words = [word for word in arguments if word != "--debug"]
    is_debug = len(words) < len(arguments)
    session = (
        Session(is_debug=is_debug)
        if started is None
        else Session(started=started, is_debug=is_debug)
    )
    with contextlib.nullcontext() if is_debug else quiet():
        return _run(words, session)


def _run(words: list[str], session: Session) -> int:
    try:
        code = app.main(words, prog_name="fewshot", standalone_mode=False, obj=session)
        sys.stdout.flush()
    except click.UsageError as error:
        return _usage(error)
    except (KeyboardInterrupt, click.Abort):
        _trace(session)
        say("Interrupted.")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except UserError as error:
        _trace(session)
        say(f"error: {error}")
        return USER_ERROR
    except OSError as error:
        _trace(session)
        say(f"error: {error.strerror or error}{_place(error)}")
        return FAILED
    except (FewShotError, click.ClickException) as error:
        _trace(session)
        say(f"error: {error}")
        return FAILED
    except Exception as error:  # noqa: BLE001  the outermost door: no traceback leaves
        _trace(session)
        kind = type(error).__name__
        hint = "" if session.is_debug else " Add --debug to see where."
        say(f"error: an unexpected {kind}: {error}.{hint}")
        return FAILED
    return code if isinstance(code, int) else 0


def _usage(error: click.UsageError) -> int:
    say(f"error: {error.format_message()}")
    if error.ctx is not None:
        say(f"Try: {error.ctx.command_path} --help")
    return USER_ERROR


def _place(error: OSError) -> str:
    return "" if error.filename is None else f": '{error.filename}'"


def _trace(session: Session) -> None:
    if session.is_debug:
        traceback.print_exc()
