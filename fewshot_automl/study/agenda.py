"""What a study tries next."""

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from fewshot_automl.oracle.folds import resumable
from fewshot_automl.oracle.oracle import History, Oracle
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config, Space
from fewshot_automl.study.draft import Draft
from fewshot_automl.study.job import Step
from fewshot_automl.study.parts import Cohorts


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
    cohorts: Cohorts | None = None
    """Says which Configs may be tried as one job; None where none may."""
    looks_first: bool = False
    """Whether what the oracle suggests runs on its first folds before it may be
    suggested again, to run on the others."""

    def next(
        self,
        history: History,
        seconds_left: Callable[[], float],
        trials_left: int | None = None,
    ) -> Step | Literal["seconds", "exhausted"]:
        """Return the next job, or why there is none.

        Args:
            history: Every trial that counts, in order of start.
            seconds_left: Asked anew for each candidate: an oracle takes its time.
            trials_left: How many Configs may still be tried, at least one; None for
                any.
        """
        resumed = resumable(history)
        tried = {config for config, _ in history}.difference(resumed)
        is_short = False
        for config, is_suggested in self._candidates(history):
            if config in tried:
                continue
            if self._fits(config, history, seconds_left()) and (
                job := self._with_companions(config, history, seconds_left, trials_left)
            ):
                is_new = is_suggested and config not in resumed
                return Step(job, is_new and self._is_looked_at_first(config))
            is_short = True
            if seconds_left() <= 0:
                break
        return "seconds" if is_short else "exhausted"

    def _candidates(self, history: History) -> Iterator[tuple[Config, bool]]:
        """Yield Configs, and whether it was the oracle that suggested each."""
        yield from ((config, False) for config in self.opening(history))
        # A useless suggestion is shown to the oracle as pending, lest it come again.
        shown = list(history)
        for _ in range(self.misfits):
            seed = trial_seed(self.seed, len(shown))
            suggested = self.oracle.suggest(self.space, shown, 1, seed)
            yield from ((config, True) for config in suggested)
            if not suggested:
                return
            shown += [(config, Outcome(status="running")) for config in suggested]

    def _with_companions(
        self,
        config: Config,
        history: History,
        seconds_left: Callable[[], float],
        trials_left: int | None,
    ) -> tuple[Config, ...]:
        """Return a Config and what to try beside it; nothing if the time is gone.

        Companions are welcome, not needed: the oracle is asked once.
        """
        cohorts = self.cohorts
        if cohorts is None:
            return (config,)
        room = min(cohorts.size(config), trials_left or sys.maxsize)
        space = cohorts.space(config) if room > 1 else None
        if space is None:
            return (config,)
        draft = Draft(
            cohorts=cohorts,
            space=space,
            history=history,
            forecast=self._expected,
            seconds_left=seconds_left,
            room=room,
            configs=[config],
            seconds=[self._expected(config, history)],
        )
        draft.offer(self.opening(draft.shown()))
        if missing := draft.missing():
            shown = draft.shown()
            seed = trial_seed(self.seed, len(shown))
            found = self.oracle.suggest(self.space, shown, missing, seed, space)
            draft.offer(found)
        return draft.final()

    def _is_looked_at_first(self, config: Config) -> bool:
        """Return whether a new Config runs on its first folds alone.

        Where a job has room for several trials, folds are not what to save.
        """
        is_alone = self.cohorts is None or self.cohorts.size(config) == 1
        return self.looks_first and is_alone

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
