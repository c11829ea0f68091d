"""Shows a fit while it runs: sentences as they come, and below them where it stands."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fewshot_automl.cli.words import clock, details, duration, score, title
from fewshot_automl.oracle.goals import Limit, measured
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config
from fewshot_automl.study import Event

BAR_WIDTH = 28
REDRAWS_A_SECOND = 2.0
"""Drawing shares the processor with the training it tells of."""


class Display:
    """Is a `Listener`: live below a terminal's last line, else one line a trial."""

    def __init__(
        self,
        console: Console,
        *,
        started: float,
        budget_seconds: float | None,
        metric: str,
        orient: Callable[[float], float],
        folder: Path,
        limits: Sequence[Limit] = (),
    ) -> None:
        """Prepare to show a fit; enter the object as a context to begin.

        Args:
            console: Where to write.
            started: `time.monotonic()` at which the command began.
            budget_seconds: What the bar measures against; None for no limit.
            metric: Name of what is maximised.
            orient: Turns a score of the search into the metric's own direction.
            folder: Where the study is kept; told when the first trial starts.
            limits: What a trial must keep to be the best.
        """
        self._console = console
        self._started = started
        self._seconds = budget_seconds
        self._metric = metric
        self._orient = orient
        self._folder = folder
        self._limits = limits
        self._running: dict[int, Config] = {}
        self._stage = ""
        self._last: Event | None = None
        self._live: Live | None = None

    def __enter__(self) -> "Display":
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
        told = f"trial {event.number:>3}  {title(event.config)}"
        took = duration(outcome.cost_seconds)
        at = clock(time.monotonic() - self._started)
        if not outcome.is_done:
            return f"{at:>6}  {told}: {outcome.status}, {outcome.reason} ({took})"
        is_best = self._best(event) == (event.config, outcome)
        mark = "  best so far" if is_best else ""
        if not self._is_allowed(outcome):
            mark = "  over a limit"
        return f"{at:>6}  {told}: {self._scored(outcome)} ({took}){mark}"

    def _scored(self, outcome: Outcome) -> str:
        value = score(self._orient(outcome.mean), outcome.standard_error)
        return f"{self._metric} {value}"

    def _draw(self) -> RenderableType:
        """Return the lines below the sentences."""
        rows = Table.grid(padding=(0, 2))
        rows.add_column(style="dim", no_wrap=True)
        rows.add_column(overflow="ellipsis", no_wrap=True)
        for config in list(self._running.values())[:3]:
            rows.add_row(
                "now", Text.assemble(title(config), ("  " + details(config), "dim"))
            )
        if not self._running:
            rows.add_row("now", Text(self._stage or "starting"))
        best = None if self._last is None else self._best(self._last)
        if best is not None:
            config, outcome = best
            shown = (f"  {self._scored(outcome)}", "bold green")
            rows.add_row("best", Text.assemble(title(config), shown))
        return Group(Text(), self._budget(), rows)

    def _budget(self) -> RenderableType:
        """Return the bar of time and the counts of trials."""
        used = time.monotonic() - self._started
        row = Table.grid(padding=(0, 2))
        cells: list[RenderableType] = []
        if self._seconds is not None:
            cells.append(
                ProgressBar(
                    total=self._seconds,
                    completed=min(used, self._seconds),
                    width=BAR_WIDTH,
                )
            )
            cells.append(Text(f"{clock(used)} of {clock(self._seconds)}"))
        else:
            cells.append(Text(clock(used)))
        cells.append(Text(self._counts(), style="dim"))
        row.add_row(*cells)
        return row

    def _counts(self) -> str:
        event = self._last
        if event is None:
            return ""
        statuses = [outcome.status for _, outcome in event.history]
        configs = len({config for config, _ in event.history})
        told = [f"trial {configs}", f"{statuses.count('done')} done"]
        told += [
            f"{statuses.count(status)} {status}"
            for status in ("failed", "stopped")
            if status in statuses
        ]
        if event.trials_left is not None:
            told[0] += f" of {configs + event.trials_left}"
        return " · ".join(told)

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
