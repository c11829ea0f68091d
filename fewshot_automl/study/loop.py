"""The loop of a study: suggest, record, submit, record, until the budget is spent.

It knows numbers and no models: a space, an oracle that proposes, a function that
evaluates, an executor that runs it and a ledger that remembers. All state is in the
ledger, so resuming is running again on the same one.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
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
    Allows,
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
SUGGESTED: Final = "suggested"
"""The ledger's note of suggestions that were asked for at once."""


def run(
    space: Space,
    evaluate: Evaluate,
    *,
    oracle: Oracle,
    ledger: Ledger,
    executor: Executor,
    budget: Budget,
    opening: Callable[[History], Sequence[Config]] = lambda history: (),
    allows: Allows | None = None,
    reserve: Callable[[History], float] = lambda history: 0.0,
    expected_seconds: Callable[[Config, History], float] | None = None,
    patience: Patience = Patience(),  # noqa: B008  frozen
    thinks_ahead: bool = False,
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
        allows: Which Configs the oracle may suggest, given the history; None for all.
        reserve: Seconds to keep for what comes after the study, given the history.
        expected_seconds: What a Config is expected to take. One that does not fit the
            time left is not started, and several that are cheap are asked for at once.
        patience: How much to put up with.
        thinks_ahead: Whether the oracle is asked, in a thread, while the last trial
            runs, which it then knows nothing of yet. That saves time where the trial
            does not need all of this process: on a GPU, or in other processes.
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
    noted = ledger.notes().get(SUGGESTED)
    queue = [Config.from_json(one) for one in noted] if isinstance(noted, list) else []
    with ThreadPoolExecutor(max_workers=1) as thinker:
        study = _Study(
            agenda=Agenda(
                space=space,
                oracle=oracle,
                opening=opening,
                allows=allows,
                expected_seconds=expected_seconds,
                misfits=patience.misfits,
                thinks_ahead=thinks_ahead,
                seed=seed,
                queue=[config for config in queue if space.contains(config)],
            ),
            evaluate=evaluate,
            ledger=ledger,
            executor=executor,
            budget=budget,
            reserve=reserve,
            patience=patience,
            on_event=on_event,
            clock=clock,
            thinker=thinker,
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
    """The parts of one run, and what it has under way.

    While the thinker thinks, nothing else calls the oracle, or what the caller gave to
    tell seconds by: neither need be safe for threads.
    """

    agenda: Agenda
    evaluate: Evaluate
    ledger: Ledger
    executor: Executor
    budget: Budget
    reserve: Callable[[History], float]
    patience: Patience
    on_event: Callable[[Event], None]
    clock: Callable[[], float]
    thinker: ThreadPoolExecutor
    resumed_at: int
    thought: Future[list[Config]] | None = None
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
        self._let_think()
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
            ahead = None if self.thought is None else self.thought.result()
            self.thought, before = None, self.agenda.queue
            seconds_left = partial(self._seconds_left, history)
            config = self.agenda.next(history, seconds_left, ahead)
            if max(len(before), len(self.agenda.queue)) > 1 and (
                before is not self.agenda.queue
            ):
                self.ledger.note(SUGGESTED, [c.to_json() for c in self.agenda.queue])
            if not isinstance(config, Config):
                return config
            self._start(config, history)
        return None

    def _start(self, config: Config, history: History) -> None:
        flight = _Flight(self.ledger.start(config), config, self.clock())
        allowance = self._seconds_left(history)
        ticket = self.executor.submit(
            self.evaluate, (config,), allowance if allowance < math.inf else None
        )
        self.flights[ticket] = flight
        self._tell("started", flight, Outcome(status="running"))

    def _collect(self) -> None:
        """Record the trials that end, or give up those that should have ended."""
        history = self._counting()
        end = self.clock() + self._seconds_left(history) + self.patience.grace_seconds
        is_last = self._trials_left(history) == 0
        if self.thought is None and not is_last and self._is_full(history):
            self.thought = self.thinker.submit(self.agenda.suggest, history)
        timeout = max(0.0, end - self.clock()) if end < math.inf else None
        ended = []
        for result in self.executor.wait(timeout):
            flight = self.flights.pop(result.ticket, None)
            if result.error is not None:
                logger.debug("A trial raised", exc_info=result.error)
            if flight is not None:  # else it was given up before
                outcome = _outcome_of(result, self.clock() - flight.started)
                self._record(flight, outcome)
                ended.append((flight, outcome))
        self._let_think()
        for flight, outcome in ended:
            self._tell("finished", flight, outcome)
        if not ended and self.clock() >= end:
            self.abandon("did not come back by its deadline")

    def _is_full(self, history: History) -> bool:
        """Return whether nothing is to be done but to think and wait."""
        is_busy = len(self.flights) == self.executor.slots
        return is_busy and self.agenda.is_oracles_turn(history)

    def _let_think(self) -> None:
        if self.thought is not None:
            wait_for([self.thought])

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
        return max(0, self.budget.trials - len({config for config, _ in history}))

    def _seconds_left(self, history: History) -> float:
        return self.budget.remaining(self.clock()) - self.reserve(history)

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
