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

from fewshot_automl.errors import OutOfTime, RunError
from fewshot_automl.executors import Executor, Finished, Ticket
from fewshot_automl.ledger import INTERRUPTED, Ledger
from fewshot_automl.oracle.oracle import Oracle
from fewshot_automl.outcome import History, Outcome
from fewshot_automl.space import Config, Space
from fewshot_automl.study.agenda import Agenda
from fewshot_automl.study.budget import Budget
from fewshot_automl.study.parts import (
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
    opening: Callable[[History], Sequence[Config]] = lambda history: (),
    reserve: Callable[[History], float] = lambda history: 0.0,
    forecast: Callable[[Config, History], float] | None = None,
    patience: Patience = Patience(),  # noqa: B008  frozen
    seed: int = 0,
    on_event: Callable[[Event], None] = lambda event: None,
    clock: Callable[[], float] = time.monotonic,
) -> StudyEnd:
    """Try Configs until the budget is spent or nothing is left to try.

    No Config is tried twice, but for those whose trial was stopped in an earlier run.
    To resume, open the ledger, call its `interrupt_running`, and run again: with one
    slot the trials are those of a study that was never broken off.

    Args:
        space: Where to search.
        evaluate: What a trial is. Whatever it raises becomes a failed Outcome, and
            `OutOfTime` a stopped one. For other processes it must be picklable.
        oracle: Proposes Configs once the opening has nothing new.
        ledger: Remembers. It may hold the trials of an earlier run.
        executor: Runs `evaluate`; stays the caller's to shut down.
        budget: When to end.
        opening: The Configs to try first, given the history so far; asked before
            each trial.
        reserve: Seconds to keep for what comes after the study, given the history.
        forecast: The expected seconds of a Config. One that does not fit the time left
            is not started.
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
        ),
        evaluate=evaluate,
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
    evaluate: Evaluate
    ledger: Ledger
    executor: Executor
    budget: Budget
    reserve: Callable[[History], float]
    patience: Patience
    on_event: Callable[[Event], None]
    clock: Callable[[], float]
    resumed_at: int
    flights: dict[Ticket, _Flight] = field(default_factory=dict)

    def go(self) -> Ending:
        """Run trials until there is a reason to end and none is under way."""
        while True:
            ending = self._fill()
            if not self.flights and ending is not None:
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

    def _fill(self) -> Ending | None:
        """Start trials until every slot is busy (None) or there is nothing to start."""
        while len(self.flights) < self.executor.slots:
            history = self._counting()
            if self._trials_left(history) == 0:
                return "trials"
            if self._seconds_left(history) <= 0:
                return "seconds"
            seconds_left = partial(self._seconds_left, history)
            config = self.agenda.next(history, seconds_left)
            if not isinstance(config, Config):
                return config
            self._start(config, history)
        return None

    def _start(self, config: Config, history: History) -> None:
        flight = _Flight(self.ledger.start(config), config, self.clock())
        deadline = self._deadline(history)
        ticket = self.executor.submit(self.evaluate, config, deadline)
        self.flights[ticket] = flight
        self._tell("started", flight, Outcome(status="running"))

    def _collect(self) -> None:
        """Record the trials that end, or give up those that should have ended."""
        deadline = self._deadline(self._counting())
        timeout: float | None = None
        if deadline is not None:
            late = deadline + self.patience.grace_seconds
            timeout = max(0.0, late - self.clock())
        finished = self.executor.wait(timeout)
        for result in finished:
            flight = self.flights.pop(result.ticket, None)
            if result.error is not None:
                logger.debug("A trial raised", exc_info=result.error)
            if flight is not None:  # else it was given up before
                outcome = _outcome_of(result, self.clock() - flight.started)
                self._record(flight, outcome)
                self._tell("finished", flight, outcome)
        if not finished and deadline is not None and self.clock() >= late:
            self.abandon("did not come back by its deadline")

    def _record(self, flight: _Flight, outcome: Outcome) -> None:
        self.ledger.finish(flight.number, outcome)
        self.ledger.note(SECONDS_USED, self.budget.used(self.clock()))

    def _check_failures(self) -> None:
        history = self._counting()
        if any(outcome.is_done for _, outcome in history):
            return
        recent = self.ledger.history()[self.resumed_at :]
        failed = [o.reason for _, o in recent if o.status == "failed"]
        if len(failed) >= self.patience.failures:
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


def _outcome_of(result: Finished, seconds: float) -> Outcome:
    """Return what a trial came back with, whatever it was."""
    error, value = result.error, result.value
    if isinstance(error, OutOfTime):
        reason = str(error) or "out of time"
        return Outcome(status="stopped", reason=reason, cost_seconds=seconds)
    if error is None and isinstance(value, Outcome) and value.status != "running":
        return value
    reason = (
        f"evaluate must return a finished Outcome, got {value!r}"
        if error is None
        else f"{type(error).__name__}: {error}".removesuffix(": ")
    )
    return Outcome(status="failed", reason=reason, cost_seconds=seconds)
