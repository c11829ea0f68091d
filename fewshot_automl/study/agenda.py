"""What a study tries next."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final, Literal

from fewshot_automl.oracle.oracle import Oracle
from fewshot_automl.outcome import History, Outcome
from fewshot_automl.space import Config, Space
from fewshot_automl.study.parts import Allows

CHEAP_SECONDS: Final = 1.0
"""Below this a trial takes about as long as a suggestion."""
BATCH: Final = 4
"""Cheap Configs that are asked for at once."""


@dataclass(slots=True, kw_only=True)
class Agenda:
    """Decides what comes next: Configs of the opening first, then of the oracle.

    What it decides depends on the history alone and never on how long anything took,
    so that a study that was broken off goes on as if it had not been.
    """

    space: Space
    """Where the oracle searches."""
    oracle: Oracle
    """Who is asked once the opening has nothing new."""
    opening: Callable[[History], Sequence[Config]]
    """What must be tried first, given the history so far."""
    allows: Allows | None
    """Which Configs the oracle may suggest; None for all."""
    expected_seconds: Callable[[Config, History], float] | None
    """What a Config is expected to take; None where nobody can tell."""
    misfits: int
    """Useless suggestions in a row before there is nothing to try."""
    thinks_ahead: bool
    """Whether the oracle is asked while the last trial runs, or as if it still did."""
    seed: int
    """The study's seed."""
    queue: list[Config] = field(default_factory=list)
    """The last suggestions; those that are untried come before another one."""

    def next(
        self,
        history: History,
        seconds_left: Callable[[], float],
        ahead: list[Config] | None = None,
    ) -> Config | Literal["seconds", "exhausted"]:
        """Return the next Config, or why there is none.

        Args:
            history: Every trial that counts, in order of start.
            seconds_left: Asked anew for each candidate: an oracle takes its time.
            ahead: What `suggest` has answered while the last trial ran, if it did.
        """
        tried = {config for config, _ in history}
        is_short = False
        for config in self._candidates(history, ahead):
            if config in tried:
                continue
            left = seconds_left()
            if left > 0 and self._expected(config, history) <= left:
                return config
            is_short = True
            if left <= 0:
                break
        return "seconds" if is_short else "exhausted"

    def is_oracles_turn(self, history: History) -> bool:
        """Return whether the oracle may as well think while the last trial runs."""
        if not self.thinks_ahead or self._is_cheap(history[-1][0], history[:-1]):
            return False
        tried = {config for config, _ in history}
        return tried.issuperset((*self.opening(history), *self.queue))

    def suggest(
        self, history: History, rejected: Sequence[Config] = ()
    ) -> list[Config]:
        """Ask the oracle; only cheap Configs come several at a time.

        Args:
            history: Every trial that counts; where the oracle thinks ahead it sees the
                last one, unless it is cheap, as still running.
            rejected: Shown to it as running, lest they come again.
        """
        shown, n = list(history), 1
        if history:
            (last, _), before = history[-1], history[:-1]
            if self._is_cheap(last, before):
                n = BATCH
            elif self.thinks_ahead:
                shown[-1] = last, Outcome(status="running")
        shown += [(config, Outcome(status="running")) for config in rejected]
        allows = self.allows(shown) if self.allows else None
        seed = trial_seed(self.seed, len(shown))
        found = self.oracle.suggest(self.space, shown, n, seed, allows)
        cheap = takewhile(lambda config: self._is_cheap(config, history), found)
        return list(cheap) or found[:1]

    def _candidates(
        self, history: History, ahead: list[Config] | None
    ) -> Iterator[Config]:
        yield from self.opening(history)
        allows = self.allows(history) if self.queue and self.allows else None
        yield from filter(allows, self.queue) if allows else self.queue
        rejected: list[Config] = []
        for _ in range(self.misfits):
            self.queue = self.suggest(history, rejected) if ahead is None else ahead
            if not self.queue:
                return
            yield from self.queue
            ahead, rejected = None, rejected + self.queue

    def _is_cheap(self, config: Config, history: History) -> bool:
        if self.expected_seconds is None:
            return False
        return self.expected_seconds(config, history) < CHEAP_SECONDS

    def _expected(self, config: Config, history: History) -> float:
        return self.expected_seconds(config, history) if self.expected_seconds else 0.0


def trial_seed(seed: int, number: int) -> int:
    """Return a seed for one trial of a study, the same on every machine.

    >>> trial_seed(0, 3) == trial_seed(0, 3) != trial_seed(1, 3)
    True
    """
    digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
