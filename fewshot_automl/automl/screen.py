"""What a fit shows: sentences as they come, where it stands, and its answer."""

import contextlib
import math
import shlex
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fewshot_automl.automl.result import Result
from fewshot_automl.automl.settings import Settings
from fewshot_automl.automl.timeline import EARLIER
from fewshot_automl.outcome import Outcome
from fewshot_automl.policy import broken
from fewshot_automl.report.words import (
    ENDINGS,
    answered,
    committee,
    duration,
    score,
    settings,
    summary_of,
    times,
    unused,
)
from fewshot_automl.space import Config
from fewshot_automl.study import Event
from fewshot_automl.tasks import metric_named

REDRAWS_A_SECOND: Final = 2.0
"""Drawing shares the processor with the training that it shows."""
SILENT_SECONDS: Final = 5.0
"""What is done for longer is said in a log, too."""
MOST_RUNNING: Final = 3
"""Trials under way that are named."""


class Progress:
    """Is a `Listener`: live below a terminal's last line, else one line a trial."""

    def __init__(
        self,
        console: Console,
        started: float,
        asked: Settings,
        folder: Path,
        *,
        has_bar: bool = True,
    ) -> None:
        """Prepare to show a fit that `started` on the clock of `time.monotonic()`.

        Without a bar its budget doesn't count from there, as when it is resumed.
        """
        self._console = console
        self._started = started
        self._seconds = asked.budget_seconds if has_bar else None
        self._metric = metric_named(asked.searched_for or "accuracy")
        self._limits = asked.aims.limits
        self._folder = folder
        self._running: dict[int, Config] = {}
        self._stage = "starting"
        self._last: Event | None = None

    def live(self) -> contextlib.AbstractContextManager[object]:
        """Return a context that shows live what is done, a log only what takes long."""
        if not self._console.is_terminal:
            return self._heartbeat()
        return Live(
            console=self._console,
            get_renderable=self._draw,
            refresh_per_second=REDRAWS_A_SECOND,
            transient=True,
        )

    @contextlib.contextmanager
    def _heartbeat(self) -> Iterator[None]:
        over = threading.Event()

        def beat() -> None:
            said = ""
            while not over.wait(SILENT_SECONDS):
                if self._stage == said:
                    line = f"{_clock(time.monotonic() - self._started)}  {said} ..."
                    self._console.print(Text(line), soft_wrap=True)
                said = self._stage

        threading.Thread(target=beat, daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def say(self, sentence: str) -> None:
        """Print a sentence; it is also what is being done until the next one."""
        self._stage = sentence.strip().rstrip(".")
        style = "yellow" if sentence.startswith(("warning", "fatal")) else ""
        is_log = not self._console.is_terminal  # a log is not wrapped
        self._console.print(Text(sentence, style=style), soft_wrap=is_log)

    def trial(self, event: Event) -> None:
        """Take the start or the end of a trial."""
        if self._last is None:
            self.say(f"Output folder: {self._folder}")
        self._last = event
        if event.kind == "started":
            self._running[event.number] = event.config
            self._stage = f"trial {event.number:>3}  {summary_of(event.config)}"
            return
        self._running.pop(event.number, None)
        self._stage = "choosing what to try next"
        if not self._console.is_terminal:
            self._console.print(Text(self._line(event)), soft_wrap=True)

    def _line(self, event: Event) -> str:
        outcome = event.outcome
        at = _clock(time.monotonic() - self._started)
        trial = f"{at}  trial {event.number:>3}  {summary_of(event.config)}"
        took = duration(outcome.cost_seconds)
        if not outcome.is_done:
            return f"{trial}: {outcome.status} ({took}). {outcome.reason}"
        mark = "  over a limit" if broken(self._limits, outcome.measures) else ""
        if self._best(event) == (event.config, outcome):
            mark = "  best so far"
        return f"{trial}: {self._scored(outcome)} ({took}){mark}"

    def _scored(self, outcome: Outcome) -> str:
        value = score(self._metric.orient(outcome.mean), outcome.standard_error)
        return f"{self._metric.name} {value}"

    def _draw(self) -> RenderableType:
        rows = Table.grid(padding=(0, 2))
        rows.add_column(style="dim", no_wrap=True)
        rows.add_column(overflow="ellipsis", no_wrap=True)
        for config in list(self._running.values())[:MOST_RUNNING]:
            about = (f"  {settings(config)}", "dim")
            rows.add_row("now", Text.assemble(summary_of(config), about))
        if not self._running:
            rows.add_row("now", Text(self._stage))
        if self._last is not None and (best := self._best(self._last)) is not None:
            shown = (f"  {self._scored(best[1])}", "bold green")
            rows.add_row("best", Text.assemble(summary_of(best[0]), shown))
        used = time.monotonic() - self._started
        cells: list[RenderableType] = [_clock(used)]
        if self._seconds is not None:
            spent = min(used, self._seconds)
            cells = [
                ProgressBar(total=self._seconds, completed=spent, width=28),
                f"{_clock(used)} of {_clock(self._seconds)}",
            ]
        bar = Table.grid(padding=(0, 2))
        bar.add_row(*cells, Text(self._counts(), style="dim"))
        return Group(Text(), bar, rows)

    def _counts(self) -> str:
        event = self._last
        if event is None:
            return ""
        statuses = [outcome.status for _, outcome in event.history]
        every, left = len(statuses), event.trials_left
        counts = [f"trial {every}" + ("" if left is None else f" of {every + left}")]
        counts += [
            f"{statuses.count(status)} {status}"
            for status in ("done", "failed", "stopped")
            if status in statuses
        ]
        return " · ".join(counts)

    def _best(self, event: Event) -> tuple[Config, Outcome] | None:
        done = [
            (config, outcome)
            for config, outcome in event.history
            if outcome.is_done and not broken(self._limits, outcome.measures)
        ]
        return max(done, key=lambda pair: pair[1].mean, default=None)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))


def show_result(console: Console, result: Result) -> None:
    """Print the model beside the baselines, and what to type next."""
    summary = result.summary
    others = [Config.from_json(row["config"]) for row in summary["members"][1:]]
    console.print()
    console.print(_scores(result, others))
    if result.test_scores is not None:
        scores = (test_line(result.test_scores), "bold")
        console.print(Text.assemble("\nOn the test data: ", scores))
    counts = ", ".join(f"{n} {name}" for name, n in summary["trials"].items() if n)
    said = (
        f"\nTrials: {counts} in {duration(summary['seconds'])}; the search ended "
        f"because {ENDINGS[summary['ending']]}."
    )
    if summary["ending"] == "chosen":
        said = f"\nTrials: {counts}, all of the study before; none was made now."
    if equal := len(summary["indistinguishable"]) - 1:
        said += f" {equal} of them cannot be told apart from the winner."
    if words := answered(summary):
        console.print(Text(f"\n{words}"))
    spent = summary["timeline"]
    if summary["ending"] == "chosen":
        spent = [row for row in spent if row["stage"] != EARLIER]
    said += f"\nTime: {times(spent)}"
    said += f"; {left}." if (left := unused(summary)) else "."
    if summary["front"]:
        said += f"\nPareto front: {len(summary['front'])} of the trials, in the report."
    if about := settings(result.config):
        said += f"\nWinner: {about}."
    if words := committee(summary):
        named = ", ".join(map(summary_of, others))
        said += f"\n{words} The winner is joined by {named}."
    console.print(Text(f"{said}\n\nEverything is in {result.folder}"))
    folder = shlex.quote(str(result.folder))
    column = summary["columns"]["target"]
    target = f" --target {shlex.quote(column)}" if column else ""
    commands = {
        f"fewshot predict {folder} NEW_DATA": "predictions for new examples",
        f"fewshot score {folder} LABELLED_DATA{target}": "scores on other labels",
    }
    if summary["ending"] in ("seconds", "interrupted"):  # more time helps
        commands[f"fewshot resume {folder} --budget 5min"] = "search on"
    report = shlex.quote(str(result.folder / "report.html"))
    commands[f"open {report}"] = "the report"
    width = max(map(len, commands))
    for command, why in commands.items():
        line = Text.assemble(f"  {command:<{width}}", (f"   {why}", "dim"))
        console.print(line, soft_wrap=True)


def _scores(result: Result, others: list[Config]) -> Table:
    """Return one row for the model and one for the best of each cheap method.

    Only of the model is said what to expect: it alone was chosen for its score.
    """
    expected = result.score
    validated = f"{expected.metric}, cross-validated"
    made = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for head in ("model", validated, "to expect", "95 % interval"):
        made.add_column(head, overflow="fold")
    _, outcome = result.history[result.summary["winner"]["number"]]
    more = f" and {len(others)} more, averaged" if others else ""
    shown, error = expected.raw, math.nan
    if not others:  # as the log and the report show the trial
        shown = metric_named(expected.metric).orient(outcome.mean)
        error = outcome.standard_error
    made.add_row(
        Text(summary_of(result.config) + more, style="bold"),
        score(shown, error),
        Text(f"{expected.expected:.3f}", style="bold green"),
        f"{expected.low:.3f} to {expected.high:.3f}",
    )
    for row in result.summary["baselines"]:
        config = Config.from_json(row["config"])
        if others or config != result.config:
            value = score(row["score"], row["standard_error"])
            made.add_row(summary_of(config), value)
    return made


def test_line(scores: Mapping[str, float]) -> str:
    """Return the scores on labelled examples in one line.

    >>> test_line({"accuracy": 0.8, "log_loss": 0.5, "n": 490.0})
    'accuracy 0.800, log loss 0.500 (490 examples)'
    """
    shown = [
        f"{name.replace('_', ' ')} {value:.3f}"
        for name, value in scores.items()
        if name != "n"
    ]
    return f"{', '.join(shown)} ({int(scores['n'])} examples)"
