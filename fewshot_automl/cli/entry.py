"""The command ``fewshot``: from words to an exit code.

0 done, 1 failed, 2 the user's to mend, 3 a model that is of no use, 130 interrupted.
Commands are imported when they are used; this file is light, so that ``fewshot --help``
is quick.
"""

import contextlib
import gc
import io
import logging
import os
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Final, NoReturn

import click

from fewshot_automl.errors import FewShotError, UserError

FAILED: Final = 1
USER_ERROR: Final = 2
NO_USE: Final = 3
INTERRUPTED: Final = 130
OLDEST_SECONDS: Final = 60.0
"""A process that is older was not started for this command."""
SPINS: Final = "1000"
"""Turns in which an OpenMP thread waits awake for others before it sleeps.

torch's default is 300 times that: beside other programs on 2 cores it made encoders 3
to 4 times slower, in CPU seconds too; this and none at all were as fast as one thread.
"""
VARIABLES: Final = {
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "PYTHONWARNINGS": "ignore",  # for worker processes
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}
"""Keep libraries silent, where the user has not set them."""
HOMES: Final = {
    "fit": ("fit", "Find the best model that a few labels can buy."),
    "predict": ("models", "Write DATA with a column `prediction` added."),
    "score": ("models", "Print the metric and other scores on labelled DATA."),
    "resume": ("fit", "Go on with a study that was killed, or search on."),
    "dashboard": ("dashboard", "Show the trials of a study in the browser."),
    "retarget": ("retarget", "Choose a model for another goal from what was tried."),
    "export": ("export", "Write a model for another runtime, proven equal."),
    "serve": ("serve", "Answer requests for predictions over HTTP."),
    "explain": ("explain", "Show why one example is answered as it is."),
    "slices": ("slices", "Show where a model fails, and labels that look wrong."),
    "repair": ("slices", "Mend a slice in which the model fails; makes a version."),
    "check": ("check", "Say whether new data differ from those of the fit."),
    "update": ("update", "Learn from new and corrected labels; makes a version."),
    "versions": ("update", "List the versions of a model, or go back to one."),
    "prior": ("prior", "Let finished studies advise the next ones."),
    "zoo": ("zoo", "List the backbones; show, get, add or check them."),
    "space": ("space", "Print every dimension that a fit of DATA would search."),
    "plan": ("plan", "Say where a fit of DATA would run, and why."),
    "bench": ("bench", "Compare programs that learn from few labels."),
    "doctor": ("doctor", "Say what this machine has and what is missing."),
    "cache": ("cache", "Say what the cache folder holds; --clear empties it."),
    "demo": ("demo", "Learn real texts and images from 8 labels a class."),
}
"""Each command's file and short help, in the order in which one meets them."""


class Commands(click.Group):
    """Imports a command when it is first used, so that help of the whole is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which one meets them."""
        return [*HOMES]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return a command, imported if need be."""
        if name in HOMES and name not in self.commands:
            home = import_module(f"fewshot_automl.cli.{HOMES[name][0]}")
            self.add_command(getattr(home, name), name)
        return super().get_command(ctx, name)

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Write a line a command, without importing it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help) for name, (_, help) in HOMES.items()])


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="fewshot-automl", message="%(prog)s %(version)s")
@click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    help="Show tracebacks and what libraries say; may stand after a command too.",
)
def app() -> None:
    """Get the best model that a few labels can buy, and an honest score for it.

    \b
    Begin with:
      fewshot demo
      fewshot fit reviews.csv --target sentiment --budget 5min

    Exit codes: 0 done, 1 failed, 2 something to mend in the command or the data,
    3 a model was made that is no better than always giving the same answer, 130
    interrupted.
    """


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    started = process_start()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what it cannot show ends no command
            stream.reconfigure(errors="backslashreplace")
    if "OMP_WAIT_POLICY" not in os.environ:  # else the user has chosen
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    code = run(sys.argv[1:], started)
    gc.freeze()  # else Python looks through all of torch before it exits: a second
    sys.exit(code)


def process_start() -> float:
    """Return `time.monotonic()` as it was when this process was created.

    The budget of a fit counts from there: loading Python is part of the wait.
    """
    now = time.monotonic()
    import psutil

    try:
        age = time.time() - psutil.Process().create_time()
    except psutil.Error:
        return now
    return now - age if 0 <= age < OLDEST_SECONDS else now


def started() -> float:
    """Return `time.monotonic()` from which the running command's budget counts."""
    return click.get_current_context().find_object(float) or time.monotonic()


def run(arguments: Sequence[str], started: float | None = None) -> int:
    """Run a command and return its exit code; messages go to stderr.

    A budget counts from `started` on the clock of `time.monotonic()`; None for now.

    >>> run(["--version"])  # doctest: +ELLIPSIS
    fewshot ...
    0
    """
    words = [word for word in arguments if word != "--debug"]
    is_debug = len(words) < len(arguments)
    began = time.monotonic() if started is None else started
    with contextlib.nullcontext() if is_debug else quiet():
        try:
            code = app.main(words, "fewshot", standalone_mode=False, obj=began)
            sys.stdout.flush()
            return code if isinstance(code, int) else 0
        except BrokenPipeError:  # the reader of our output has gone, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  outermost door
            if is_debug:
                traceback.print_exc()
            code, message = _verdict(error, is_debug)
            click.echo(message, err=True)
            return code


def _verdict(error: BaseException, is_debug: bool) -> tuple[int, str]:
    match error:
        case click.UsageError():
            place = error.ctx and f"\nTry: {error.ctx.command_path} --help"
            return USER_ERROR, f"error: {error.format_message()}{place or ''}"
        case UserError():
            return USER_ERROR, f"error: {error}"
        case KeyboardInterrupt() | click.Abort():
            return INTERRUPTED, "Interrupted."
        case OSError():
            place = "" if error.filename is None else f": '{error.filename}'"
            return FAILED, f"error: {error.strerror or error}{place}"
        case FewShotError() | click.ClickException():
            return FAILED, f"error: {error}"
    hint = "" if is_debug else " Add --debug to see where."
    return FAILED, f"error: an unexpected {type(error).__name__}: {error}.{hint}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings, log records and progress bars of libraries.

    What matters reaches the user as our own sentences and errors. Variables that the
    user set are left alone; afterwards all is as it was.
    """
    added = {name: v for name, v in VARIABLES.items() if name not in os.environ}
    level = logging.root.manager.disable
    os.environ.update(added)
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        for name in added:
            os.environ.pop(name, None)
