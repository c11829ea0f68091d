"""Where the seconds of a fit went."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from fewshot_automl.study import Event

EARLIER: Final = "earlier runs"
"""Stage of what a study used before it was resumed."""


@dataclass(slots=True, kw_only=True)
class Timeline:
    """Keeps the stages of a fit: each lasts from the mark before it to its own.

    So they are without gaps, and their seconds are those of the whole.

    >>> clock = iter([12.0, 12.5, 15.0])
    >>> line = Timeline(started=10.0, clock=lambda: next(clock))
    >>> [line.mark(stage) for stage in ("start", "read", "start")]
    [None, None, None]
    >>> [(row["stage"], row["start"], row["seconds"]) for row in line.to_json()]
    [('start', 0.0, 4.5), ('read', 2.0, 0.5)]
    """

    started: float
    """When the command started."""
    clock: Callable[[], float] = time.monotonic
    """For tests."""
    _stages: dict[str, tuple[float, float]] = field(default_factory=dict)
    """When each began, from the start on, and its seconds in all."""
    seconds: float = 0.0
    """Those of all stages so far: the last mark, from the start on."""
    _running: int = 0
    """Trials under way."""

    def resumed(self, used_before: float) -> None:
        """Make what earlier runs used of the budget the first stage."""
        if used_before:
            later = {n: (at + used_before, s) for n, (at, s) in self._stages.items()}
            self._stages = {EARLIER: (0.0, used_before), **later}
            self.started -= used_before
            self.seconds += used_before

    def mark(self, stage: str) -> None:
        """End a stage now; one that comes again is one with its first part."""
        now = self.clock() - self.started
        start, seconds = self._stages.get(stage, (self.seconds, 0.0))
        self._stages[stage] = start, seconds + now - self.seconds
        self.seconds = now

    def of(self, *stages: str) -> float:
        """Return the seconds of some stages so far."""
        return sum((self._stages[one][1] for one in stages if one in self._stages), 0.0)

    def trial(self, event: Event, stage: str) -> None:
        """Take the start or the end of a trial; between trials one is chosen."""
        if event.kind == "finished":
            self._running -= 1
            self.mark(stage)
            return
        if not self._running:
            self.mark("choosing")
        self._running += 1

    def to_json(self) -> list[dict[str, Any]]:
        """Return the stages in the order in which they first began."""
        return [
            {"stage": stage, "start": round(start, 2), "seconds": round(seconds, 2)}
            for stage, (start, seconds) in self._stages.items()
        ]
