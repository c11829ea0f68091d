"""What goes into a study and comes out of it: its seams, settings, events and end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fewshot_automl.errors import UserError
from fewshot_automl.outcome import History, Outcome
from fewshot_automl.space import Config

Evaluate = Callable[[Config, float | None], Outcome]
"""Tries a Config, for so many seconds at most; None for no limit."""
Allows = Callable[[History], Callable[[Config], bool]]
"""Says, given the history, which Configs may be suggested."""

Ending = Literal["trials", "seconds", "exhausted", "interrupted"]
"""Why a study ended: trials or time spent, nothing left to try, or Ctrl-C."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Says how much a study puts up with."""

    misfits: int = 5
    """Suggestions in a row that do not fit the time left, or were tried, before it
    ends."""
    failures: int = 10
    """Failed trials in a row before it ends with an error, if none ever was done."""
    grace_seconds: float = 5.0
    """How long past its allowance a trial is waited for."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("misfits", "failures"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be 1 or more, got {getattr(self, name)}.")
        if self.grace_seconds < 0:
            raise UserError(
                f"grace_seconds must not be negative, got {self.grace_seconds}."
            )


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
    seconds_left: float
    """Time left for trials, the reserve taken off; infinite without limit."""
    trials_left: int | None
    """Configs that may still be tried; None without limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyEnd:
    """Says what a study has found and why it ended."""

    history: History
    """Every trial in the ledger, in order of start."""
    ending: Ending
    """Why it ended."""

    @property
    def interrupted(self) -> bool:
        """Return whether the user broke it off."""
        return self.ending == "interrupted"
