"""What goes into a study and comes out of it."""

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from fewshot_automl.errors import UserError
from fewshot_automl.executors import Executor
from fewshot_automl.ledger import Ledger
from fewshot_automl.oracle.oracle import Oracle
from fewshot_automl.outcome import History, Outcome
from fewshot_automl.space import Config, Space

Ending = Literal["trials", "seconds", "exhausted", "interrupted", "chosen"]
"""Why a study ended: trials or time spent, nothing left to try, Ctrl-C, or that it only
chooses from trials of another."""

_UNITS: Final = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Says how long a study may go on, on the clock of `time.monotonic`.

    >>> budget = Budget(seconds=120.0, started=1000.0, used_before=30.0)
    >>> budget.end, budget.used(1010.0), budget.remaining(1010.0)
    (1090.0, 40.0, 80.0)
    """

    started: float
    """When the command started."""
    seconds: float | None = None
    """Wall time of the whole command, final fit included; None for no limit."""
    trials: int | None = None
    """How many Configs the whole study may try; None for no limit."""
    used_before: float = 0.0
    """Seconds that the study used before it was resumed."""

    def __post_init__(self) -> None:
        """Check that there is some time."""
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise UserError(f"budget must be a positive time, got {self.seconds} s.")

    @property
    def end(self) -> float | None:
        """Return when the time is spent, on the same clock; None without limit."""
        if self.seconds is None:
            return None
        return self.started + self.seconds - self.used_before

    def used(self, now: float) -> float:
        """Return the seconds spent so far, before a resume and since."""
        return self.used_before + now - self.started

    def remaining(self, now: float) -> float:
        """Return the seconds left, negative when overrun, infinite without limit."""
        return math.inf if self.end is None else self.end - now


def parse_budget(text: str) -> float:
    """Return the seconds that a length of time in words means.

    >>> parse_budget("120s"), parse_budget("5min"), parse_budget("1.5h")
    (120.0, 300.0, 5400.0)
    >>> parse_budget("90")
    90.0
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-z]*)\s*", text.lower())
    unit = _UNITS.get(match[2] or "s") if match else None
    seconds = float(match[1]) * unit if match and unit else 0.0
    if not 0 < seconds < math.inf:
        raise UserError(
            f"budget must be a positive time such as 90s, 5min or 2h, got {text!r}. "
            f"Units are {', '.join(_UNITS)}."
        )
    return seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Tells a display that a trial started or finished."""

    kind: Literal["started", "finished"]
    """What happened."""
    number: int
    """The trial's number in the ledger."""
    config: Config
    """What is tried."""
    outcome: Outcome
    """What came of it; `running` for one that just started."""
    history: History
    """Every trial that counts, this one included."""
    trials_left: int | None
    """Configs that may still be tried; None without limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What a study consists of; all that it remembers is in its ledger."""

    space: Space
    """Where to search."""
    evaluate: Callable[[Config, float | None], Outcome]
    """Tries a Config, for so many seconds at most; None for no limit. What it raises
    becomes a failed Outcome, and `OutOfTime` a stopped one. For other processes it must
    be picklable."""
    oracle: Oracle
    """Proposes Configs once the opening has nothing new."""
    ledger: Ledger
    """Remembers. It may hold the trials of an earlier run."""
    executor: Executor
    """Runs `evaluate`; stays the caller's to shut down."""
    budget: Budget
    """When to end."""
    opening: Callable[[History], Sequence[Config]] = lambda history: ()
    """The Configs to try first, given the history so far; asked before each trial."""
    allows: Callable[[History], Callable[[Config], bool]] = lambda history: (
        lambda config: True
    )
    """Which Configs the oracle may suggest, given the history."""
    reserve: Callable[[History], float] = lambda history: 0.0
    """Seconds to keep for what comes after the study, given the history."""
    expected_seconds: Callable[[Config, History], float] = lambda config, history: 1.0
    """What a Config is expected to take. One that does not fit the time left is not
    started, and several that are cheap are asked for at once."""
    sure: Callable[[History], Config | None] = lambda history: None
    """What is tried although no time is left, given the history, and whatever it takes;
    None where there is something to end with."""
    thinks_ahead: bool = False
    """Whether the oracle is asked, in a thread, while the last trial runs, of which it
    then knows nothing yet. That saves time where the trial does not need all of this
    process: on a GPU, or in other processes."""
    seed: int = 0
    """Makes the suggestions repeatable."""
    on_event: Callable[[Event], None] = lambda event: None
    """Hears of every trial that starts or finishes."""
    clock: Callable[[], float] = time.monotonic
    """For tests; its times must be those of `budget`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyEnd:
    """Says what a study has found and why it ended."""

    history: History
    """Every trial in the ledger, in order of start."""
    ending: Ending
    """Why it ended."""
