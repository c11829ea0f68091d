"""Shows a fit while it runs: sentences as they come, and below them where it stands."""

import math
import time
from pathlib import Path
from types import TracebackType
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fewshot_automl.automl.settings import Settings
from fewshot_automl.oracle import measured
from fewshot_automl.outcome import Outcome
from fewshot_automl.report.words import clock, duration, phrase, score, summary_of
from fewshot_automl.space import Config
from fewshot_automl.study import Event
from fewshot_automl.tasks import metric_named

BAR_WIDTH: Final = 28
DEFAULT_METRIC: Final = "accuracy"
REDRAWS_A_SECOND: Final = 2.0
"""Drawing shares the processor with the training that it shows."""
MOST_RUNNING: Final = 3
"""Trials under way that are named."""


class Progress:
    """Is a `Listener`: live below a terminal's last line, else one line a trial."""

    def __init__(
        self,
        console: Console,
        started: float,
        settings: Settings,
        folder: Path,
        *,
        has_bar: bool = True,
    ) -> None:
        """Prepare to show a fit; enter the object as a context to begin.

        Args:
            console: Where to write.
            started: `time.monotonic()` at which the command began.
            settings: Of the study; budget, metric and limits are shown.
            folder: Where the study is kept; named when the first trial starts.
            has_bar: Whether the budget counts from `started`, so that a bar can
                show how much of it is spent.
        """
        self._console = console
        self._started = started
        self._seconds = settings.budget_seconds if has_bar else None
        self._metric = metric_named(settings.metric or DEFAULT_METRIC)
        self._limits = settings.aims.limits
        self._folder = folder
        self._running: dict[int, Config] = {}
        self._stage = "starting"
        self._last: Event | None = None
        self._live: Live | None = None

    def __enter__(self) -> "Progress":
        """Begin to draw, on a terminal."""
        if self._console.is_terminal:
            self._live = Live(
                console=self._console,
                get_renderable=self._draw,
                refresh_per_second=REDRAWS_A_SECOND,
                transient=True,
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the live lines away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, sentence: str) -> None:
        """Print a sentence; it is also what is being done until the next one."""
        self._stage = sentence.strip()
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
            return
        self._running.pop(event.number, None)
        self._stage = "choosing what to try next"
        if self._live is None:
            self._console.print(Text(self._line(event)), soft_wrap=True)

    def _line(self, event: Event) -> str:
        """Return a finished trial as one line, for logs."""
        outcome = event.outcome
        at = clock(time.monotonic() - self._started)
        trial = f"{at:>6}  trial {event.number:>3}  {summary_of(event.config)}"
        took = duration(outcome.cost_seconds)
        if not outcome.is_done:
            return f"{trial}: {outcome.status}, {outcome.reason} ({took})"
        mark = "" if self._is_allowed(outcome) else "  over a limit"
        if self._best(event) == (event.config, outcome):
            mark = "  best so far"
        return f"{trial}: {self._scored(outcome)} ({took}){mark}"

    def _scored(self, outcome: Outcome) -> str:
        value = score(self._metric.orient(outcome.mean), outcome.standard_error)
        return f"{self._metric.name} {value}"

    def _draw(self) -> RenderableType:
        """Return the lines below the sentences."""
        rows = Table.grid(padding=(0, 2))
        rows.add_column(style="dim", no_wrap=True)
        rows.add_column(overflow="ellipsis", no_wrap=True)
        for config in list(self._running.values())[:MOST_RUNNING]:
            about = (f"  {phrase(config)}", "dim")
            rows.add_row("now", Text.assemble(summary_of(config), about))
        if not self._running:
            rows.add_row("now", Text(self._stage))
        best = None if self._last is None else self._best(self._last)
        if best is not None:
            shown = (f"  {self._scored(best[1])}", "bold green")
            rows.add_row("best", Text.assemble(summary_of(best[0]), shown))
        used = time.monotonic() - self._started
        cells: list[RenderableType] = [Text(clock(used))]
        if self._seconds is not None:
            spent = min(used, self._seconds)
            cells = [
                ProgressBar(total=self._seconds, completed=spent, width=BAR_WIDTH),
                Text(f"{clock(used)} of {clock(self._seconds)}"),
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
        """Return the best trial that keeps the limits."""
        done = [
            (config, outcome)
            for config, outcome in event.history
            if outcome.is_done
            and math.isfinite(outcome.mean)
            and self._is_allowed(outcome)
        ]
        return max(done, key=lambda pair: pair[1].mean, default=None)

    def _is_allowed(self, outcome: Outcome) -> bool:
        return all(
            limit.allows(measured(limit.name, outcome)) for limit in self._limits
        )
