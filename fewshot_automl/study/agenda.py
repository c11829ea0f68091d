"""What a study tries next."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final, Literal

from fewshot_automl.outcome import History, Outcome
from fewshot_automl.space import Config
from fewshot_automl.study.parts import Study

CHEAP_SECONDS: Final = 1.0
"""Below this a trial takes about as long as a suggestion."""
BATCH: Final = 4
"""Cheap Configs that are asked for at once."""
CROWD: Final = 2
"""Slots for each of which the oracle is asked for one Config more at once: it thinks
hardly longer, and 16 slots are else kept waiting (`benchmarks/scale.py`)."""
MISFITS: Final = 5
"""Suggestions in a row that do not fit the time left, or were tried, before there is
nothing to try."""


@dataclass(slots=True)
class Agenda:
    """Decides what comes next: Configs of the opening first, then of the oracle.

    What it decides depends on the history alone and never on how long anything took,
    so that a study that was broken off goes on as if it had not been.
    """

    study: Study
    queue: list[Config]
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
            seconds_left: Asked again for each candidate: an oracle takes time.
            ahead: What `suggest` has answered while the last trial ran, if it did.
        """
        tried = {config for config, _ in history}
        is_short = False
        for config in self._candidates(history, ahead):
            if config in tried:
                continue
            left = seconds_left()
            if left > 0 and self.study.expected_seconds(config, history) <= left:
                return config
            is_short = True
            if left <= 0:
                break
        return "seconds" if is_short else "exhausted"

    def is_oracles_turn(self, history: History) -> bool:
        """Return whether the oracle may as well think while the last trial runs."""
        if not self.study.thinks_ahead or self._is_cheap(history[-1][0], history[:-1]):
            return False
        tried = {config for config, _ in history}
        return tried.issuperset((*self.study.opening(history), *self.queue))

    def suggest(
        self, history: History, rejected: Sequence[Config] = ()
    ) -> list[Config]:
        """Ask the oracle; Configs come several at a time if cheap, or for many slots.

        Where it thinks ahead it sees the last trial, unless it is cheap, as running. It
        sees what was rejected, too, so that it does not come again.
        """
        study, shown = self.study, list(history)
        n = together = max(1, study.executor.slots // CROWD)
        running = Outcome(status="running")
        if history:
            (last, _), before = history[-1], history[:-1]
            if self._is_cheap(last, before):
                n = max(n, BATCH)
            elif study.thinks_ahead:
                shown[-1] = last, running
        shown += [(config, running) for config in rejected]
        seed = trial_seed(study.seed, len(shown))
        found = study.oracle.suggest(study.space, shown, n, seed, study.allows(shown))
        cheap = [*takewhile(lambda config: self._is_cheap(config, history), found)]
        return found[: max(together, len(cheap))]

    def _candidates(
        self, history: History, ahead: list[Config] | None
    ) -> Iterator[Config]:
        yield from self.study.opening(history)
        if self.queue:
            yield from filter(self.study.allows(history), self.queue)
        rejected: list[Config] = []
        for _ in range(MISFITS):
            self.queue = self.suggest(history, rejected) if ahead is None else ahead
            if not self.queue:
                return
            yield from self.queue
            ahead, rejected = None, rejected + self.queue

    def _is_cheap(self, config: Config, history: History) -> bool:
        return self.study.expected_seconds(config, history) < CHEAP_SECONDS


def trial_seed(seed: int, number: int) -> int:
    """Return a seed for one trial of a study, the same on every machine.

    >>> trial_seed(0, 3) == trial_seed(0, 3) != trial_seed(1, 3)
    True
    """
    digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
