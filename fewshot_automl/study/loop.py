"""The loop of a study: suggest, record, submit, record, until the budget is spent.

It knows numbers and no models: a space, an oracle that proposes, a function that
evaluates, an executor that runs it and a ledger that remembers. All state is in the
ledger, so resuming is running again on the same one.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal

from fewshot_automl.errors import RunError
from fewshot_automl.executors import Executor, Ticket
from fewshot_automl.ledger import INTERRUPTED, Ledger
from fewshot_automl.oracle.oracle import History, Oracle
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config, Space
from fewshot_automl.study.agenda import Agenda
from fewshot_automl.study.budget import Budget
from fewshot_automl.study.job import Step, Work, outcomes_of
from fewshot_automl.study.parts import (
    Cohorts,
    Ending,
    Evaluate,
    Event,
    Patience,
    StudyEnd,
)

logger = logging.getLogger(__name__)

SECONDS_USED: Final = "seconds_used"
"""The ledger's note of the wall time a study has used: `Budget.used_before` of a
resume."""


def run(
    space: Space,
    evaluate: Evaluate,
    *,
    oracle: Oracle,
    ledger: Ledger,
    executor: Executor,
    budget: Budget,
    first_look: Evaluate | None = None,
    cohorts: Cohorts | None = None,
    opening: Callable[[History], Sequence[Config]] = lambda history: (),
    reserve: Callable[[History], float] = lambda history: 0.0,
    forecast: Callable[[Config, History], float] | None = None,
    patience: Patience = Patience(),  # noqa: B008  frozen
    seed: int = 0,
    on_event: Callable[[Event], None] = lambda event: None,
    clock: Callable[[], float] = time.monotonic,
) -> StudyEnd:
    """Try Configs until the budget is spent or nothing is left to try.

    No Config is tried twice, but for those whose trial was stopped in an earlier run,
    and those that have folds left.
    To resume, open the ledger, call its `interrupt_running`, and run again: with one
    slot the trials are those of a study that was never broken off.

    Args:
        space: Where to search.
        evaluate: What a trial is. Whatever it raises becomes a failed Outcome, and
            `OutOfTime` a stopped one. For other processes it must be picklable.
        oracle: Proposes Configs once the opening has nothing new.
        ledger: Remembers. It may hold the trials of an earlier run.
        executor: Runs `evaluate`; stays the caller's to shut down.
        budget: When to end. Its trials are Configs: the rest of one that was looked at
            is not another.
        first_look: Tries a Config on its first folds; its Outcome says how many are
            left. What the oracle suggests runs by it when it is new, and by `evaluate`
            when it is suggested again, as a trial of its own in the ledger. Not used
            where cohorts have room for more than one. None to run all folds at once.
        cohorts: Says which Configs may run beside the next one as one job, and runs
            them; None to run every trial by itself. Each Config of a job is a trial
            of its own in the ledger. Where the opening has too few, the oracle is
            asked for the companions that are missing, all at once.
        opening: The Configs to try first, given the history so far; asked before
            each trial.
        reserve: Seconds to keep for what comes after the study, given the history.
        forecast: The expected seconds of all folds of a Config, or of those that are
            left. One that does not fit the time left is not started.
        patience: How much to put up with.
        seed: Makes the suggestions repeatable.
        on_event: Told of every trial that starts or finishes, for a display.
        clock: For tests; its times must be those of `budget`.

    Returns:
        The whole history. After Ctrl-C too: running trials are marked stopped, and
        the caller may finish with what there is.

    Raises:
        RunError: If too many trials failed and none was ever done.
        LedgerError: If the ledger cannot be written.
    """
    study = _Study(
        agenda=Agenda(
            space=space,
            oracle=oracle,
            opening=opening,
            forecast=forecast,
            misfits=patience.misfits,
            seed=seed,
            cohorts=cohorts,
            looks_first=first_look is not None,
        ),
        work=Work(evaluate, cohorts, first_look),
        ledger=ledger,
        executor=executor,
        budget=budget,
        reserve=reserve,
        patience=patience,
        on_event=on_event,
        clock=clock,
        resumed_at=len(ledger.history()),
    )
    try:
        ending = study.go()
    except KeyboardInterrupt:
        study.abandon(INTERRUPTED)
        ending = "interrupted"
    ledger.note(SECONDS_USED, budget.used(clock()))
    return StudyEnd(history=ledger.history(), ending=ending)


@dataclass(frozen=True, slots=True)
class _Flight:
    """One trial under way."""

    number: int
    config: Config
    started: float


@dataclass(slots=True, kw_only=True)
class _Study:
    """The parts of one run, and what it has under way."""

    agenda: Agenda
    work: Work
    ledger: Ledger
    executor: Executor
    budget: Budget
    reserve: Callable[[History], float]
    patience: Patience
    on_event: Callable[[Event], None]
    clock: Callable[[], float]
    resumed_at: int
    jobs: dict[Ticket, tuple[_Flight, ...]] = field(default_factory=dict)
    flights: dict[int, _Flight] = field(default_factory=dict)
    failed_jobs: int = 0

    def go(self) -> Ending:
        """Run trials until there is a reason to end and none is under way."""
        while True:
            ending = self._fill()
            if not self.jobs and ending is not None:
                return ending
            self._collect()
            self._check_failures()

    def abandon(self, reason: str) -> None:
        """Mark the trials under way as stopped."""
        stopped = Outcome(status="stopped", reason=reason)
        outcomes = [outcome for _, outcome in self.ledger.history()]
        for flight in list(self.flights.values()):
            if outcomes[flight.number].status == "running":
                self._record(flight, stopped)
                self._tell("finished", flight, stopped)
        self.flights.clear()
        self.jobs.clear()

    def _fill(self) -> Ending | None:
        """Start trials until every slot is busy (None) or there is nothing to start."""
        while len(self.jobs) < self.executor.slots:
            history = self._counting()
            trials_left = self._trials_left(history)
            if trials_left == 0:
                return "trials"
            if self._seconds_left(history) <= 0:
                return "seconds"
            seconds_left = partial(self._seconds_left, history)
            step = self.agenda.next(history, seconds_left, trials_left)
            if not isinstance(step, Step):
                return step
            self._start(step, history)
        return None

    def _start(self, step: Step, history: History) -> None:
        job = tuple(self._launch(config) for config in step.configs)
        ticket = self.executor.submit(self.work, step, self._deadline(history))
        self.jobs[ticket] = job
        for flight in job:
            self._tell("started", flight, Outcome(status="running"))

    def _launch(self, config: Config) -> _Flight:
        flight = _Flight(self.ledger.start(config), config, self.clock())
        self.flights[flight.number] = flight
        return flight

    def _collect(self) -> None:
        """Record the trials that end, or give up those that should have ended."""
        deadline = self._deadline(self._counting())
        timeout: float | None = None
        if deadline is not None:
            late = deadline + self.patience.grace_seconds
            timeout = max(0.0, late - self.clock())
        finished = self.executor.wait(timeout)
        for result in finished:
            job = self.jobs.pop(result.ticket, ())
            if result.error is not None:
                logger.debug("A trial raised", exc_info=result.error)
            if job:  # else it was given up before
                seconds = self.clock() - job[0].started
                self._finish(job, outcomes_of(result, len(job), seconds))
        if not finished and deadline is not None and self.clock() >= late:
            self.abandon("did not come back by its deadline")

    def _finish(self, job: tuple[_Flight, ...], outcomes: tuple[Outcome, ...]) -> None:
        self.failed_jobs += any(outcome.status == "failed" for outcome in outcomes)
        for flight, outcome in zip(job, outcomes, strict=True):
            self._record(flight, outcome)
        for flight, outcome in zip(job, outcomes, strict=True):
            self._tell("finished", flight, outcome)

    def _record(self, flight: _Flight, outcome: Outcome) -> None:
        self.ledger.finish(flight.number, outcome)
        self.flights.pop(flight.number)
        self.ledger.note(SECONDS_USED, self.budget.used(self.clock()))

    def _check_failures(self) -> None:
        history = self._counting()
        if any(outcome.is_done for _, outcome in history):
            return
        if self.failed_jobs >= self.patience.failures:
            recent = self.ledger.history()[self.resumed_at :]
            failed = [o.reason for _, o in recent if o.status == "failed"]
            self.abandon(INTERRUPTED)
            reasons = "\n".join(f"  - {reason}" for reason in dict.fromkeys(failed))
            raise RunError(
                f"All of the first {len(failed)} trials failed, so the study stops. "
                f"Mend what they say:\n{reasons}"
            )

    def _counting(self) -> list[tuple[Config, Outcome]]:
        """Return the history without the trials that were stopped in earlier runs.

        They say nothing about their Configs, which may be tried again.
        """
        return [
            (config, outcome)
            for number, (config, outcome) in enumerate(self.ledger.history())
            if number >= self.resumed_at or outcome.status != "stopped"
        ]

    def _trials_left(self, history: History) -> int | None:
        if self.budget.trials is None:
            return None
        configs = {config for config, _ in history}
        return max(0, self.budget.trials - len(configs))

    def _seconds_left(self, history: History) -> float:
        deadline = self._deadline(history)
        return math.inf if deadline is None else deadline - self.clock()

    def _deadline(self, history: History) -> float | None:
        end = self.budget.end
        return None if end is None else end - self.reserve(history)

    def _tell(
        self, kind: Literal["started", "finished"], flight: _Flight, outcome: Outcome
    ) -> None:
        history = self._counting()
        self.on_event(
            Event(
                kind=kind,
                number=flight.number,
                config=flight.config,
                outcome=outcome,
                history=history,
                seconds_left=self._seconds_left(history),
                trials_left=self._trials_left(history),
            )
        )
