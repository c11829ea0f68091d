"""What a study may spend: wall time for the whole command, trials, or both."""

import math
import re
from dataclasses import dataclass
from typing import Final

from fewshot_automl.errors import UserError

_UNITS: Final = {
    "": 1.0,
    "s": 1.0,
    "sec": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
}


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
        """Check that there is some limit, and that limits are positive."""
        if self.seconds is None and self.trials is None:
            raise UserError(
                "A budget must have a time or a number of trials, got neither. "
                "Give --budget 5min or --trials 20."
            )
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise UserError(
                f"Seconds of a budget must be positive, got {self.seconds}."
            )
        if self.trials is not None and self.trials < 1:
            raise UserError(f"Trials of a budget must be 1 or more, got {self.trials}.")

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

    Raises:
        UserError: If it is not a positive number with a known unit.

    >>> parse_budget("120s"), parse_budget("5min"), parse_budget("1.5h")
    (120.0, 300.0, 5400.0)
    >>> parse_budget("90")
    90.0
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-z]*)\s*", text.lower())
    unit = _UNITS.get(match[2]) if match else None
    seconds = float(match[1]) * unit if match and unit else 0.0
    if not 0 < seconds < math.inf:
        raise UserError(
            f"budget must be a positive time such as 90s, 5min or 2h, got {text!r}. "
            f"Units are {', '.join(name for name in _UNITS if name)}."
        )
    return seconds
