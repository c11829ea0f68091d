"""What a study tries next."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from fewshot_automl.oracle.oracle import Oracle
from fewshot_automl.outcome import History, Outcome
from fewshot_automl.space import Config, Space


@dataclass(frozen=True, slots=True, kw_only=True)
class Agenda:
    """Decides what comes next: Configs of the opening first, then of the oracle."""

    space: Space
    """Where the oracle searches."""
    oracle: Oracle
    """Who is asked once the opening has nothing new."""
    opening: Callable[[History], Sequence[Config]]
    """What must be tried first, given the history so far."""
    forecast: Callable[[Config, History], float] | None
    """The expected seconds of a Config; None where nobody can tell."""
    misfits: int
    """Useless suggestions in a row before there is nothing to try."""
    seed: int
    """The study's seed."""

    def next(
        self, history: History, seconds_left: Callable[[], float]
    ) -> Config | Literal["seconds", "exhausted"]:
        """Return the next Config, or why there is none.

        Args:
            history: Every trial that counts, in order of start.
            seconds_left: Asked anew for each candidate: an oracle takes its time.
        """
        tried = {config for config, _ in history}
        is_short = False
        for config in self._candidates(history):
            if config in tried:
                continue
            if self._fits(config, history, seconds_left()):
                return config
            is_short = True
            if seconds_left() <= 0:
                break
        return "seconds" if is_short else "exhausted"

    def _candidates(self, history: History) -> Iterator[Config]:
        yield from self.opening(history)
        # A useless suggestion is shown to the oracle as pending, lest it come again.
        shown = list(history)
        for _ in range(self.misfits):
            seed = trial_seed(self.seed, len(shown))
            suggested = self.oracle.suggest(self.space, shown, 1, seed)
            yield from suggested
            if not suggested:
                return
            shown += [(config, Outcome(status="running")) for config in suggested]

    def _fits(self, config: Config, history: History, seconds: float) -> bool:
        return seconds > 0 and self._expected(config, history) <= seconds

    def _expected(self, config: Config, history: History) -> float:
        return self.forecast(config, history) if self.forecast else 0.0


def trial_seed(seed: int, number: int) -> int:
    """Return a seed for one trial of a study, the same on every machine.

    >>> trial_seed(0, 3) == trial_seed(0, 3) != trial_seed(1, 3)
    True
    """
    digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
