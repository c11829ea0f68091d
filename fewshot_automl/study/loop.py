"""The loop of a study: suggest, record, submit, record, until the budget is spent.

It knows numbers and no models. All state is in the ledger, so resuming is running
again on the same one.
"""

import logging
import math
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from functools import partial
from typing import Final, Literal, NamedTuple

from fewshot_automl.errors import OutOfTime, RunError
from fewshot_automl.executors import Finished
from fewshot_automl.ledger import INTERRUPTED
from fewshot_automl.outcome import History, Outcome
from fewshot_automl.space import Config
from fewshot_automl.study.agenda import Agenda
from fewshot_automl.study.parts import Ending, Event, Study, StudyEnd

logger = logging.getLogger(__name__)

SECONDS_USED: Final = "seconds_used"
"""The ledger's note of the wall time a study has used: `Budget.used_before` of a
resume."""
SUGGESTED: Final = "suggested"
"""The ledger's note of suggestions that were asked for at once."""
FAILURES: Final = 10
"""Failed trials before a study ends with an error, if none ever was done."""
GRACE_SECONDS: Final = 5.0
"""How long past its allowance a trial is waited for."""


def run(study: Study) -> StudyEnd:
    """Try Configs until the budget is spent or nothing is left to try.

    No Config is tried twice, but for those whose trial was stopped in an earlier run.
    To resume, open the ledger, call its `interrupt_running`, and run again: with one
    slot the trials are those of a study that was never broken off.

    After Ctrl-C running trials are marked stopped, and the caller may finish with what
    there is.

    Raises:
        RunError: If too many trials failed and none was ever done.
        LedgerError: If the ledger cannot be written.
    """
    with ThreadPoolExecutor(max_workers=1) as thinker:
        going = _Run(study, thinker)
        try:
            ending = going.to_the_end()
        except KeyboardInterrupt:
            going.abandon(INTERRUPTED)
            ending = "interrupted"
    study.ledger.note(SECONDS_USED, study.budget.used(study.clock()), is_own=True)
    return StudyEnd(history=study.ledger.history(), ending=ending)


class _Flight(NamedTuple):
    """One trial under way."""

    number: int
    config: Config
    started: float
    is_endless: bool
    """Whether no clock ends it."""


class _Run:
    """One run of a study, and what it has under way.

    While the thinker thinks, nothing else calls the oracle, or what the caller gave to
    tell seconds by: neither need be safe for threads.
    """

    def __init__(self, study: Study, thinker: ThreadPoolExecutor) -> None:
        noted = study.ledger.notes().get(SUGGESTED)
        queue = map(Config.from_json, noted if isinstance(noted, list) else [])
        self.study, self.thinker = study, thinker
        self.agenda = Agenda(study, [one for one in queue if study.space.contains(one)])
        self.resumed_at = len(study.ledger.history())
        self.thought: Future[list[Config]] | None = None
        self.flights: dict[int, _Flight] = {}  # by ticket

    def to_the_end(self) -> Ending:
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
        history = self.study.ledger.history()
        for ticket, flight in list(self.flights.items()):
            # Another process may have resumed the study, and ended it there.
            if history[flight.number][1].status == "running":
                self._record(flight, stopped)
                self._tell("finished", flight, stopped)
            del self.flights[ticket]

    def _fill(self) -> Ending | None:
        """Start trials until every slot is busy (None) or there is nothing to start."""
        while len(self.flights) < self.study.executor.slots:
            history = self._counting()
            if self._trials_left(history) == 0:
                return "trials"
            config = self._next(history)
            if isinstance(config, Config):
                begun = [*history, (config, Outcome(status="running"))]
                self._start(config, self._seconds_left(begun))
                continue
            sure = None if self.flights else self.study.sure(history)
            if sure is None:
                return config
            self._start(sure, math.inf)
        return None

    def _next(self, history: History) -> Config | Literal["seconds", "exhausted"]:
        if self._seconds_left(history) <= 0:
            return "seconds"
        ahead = None if self.thought is None else self.thought.result()
        self.thought, before = None, self.agenda.queue
        left = partial(self._seconds_left, history)
        config = self.agenda.next(history, left, ahead)
        queue = self.agenda.queue
        if queue is not before and max(len(before), len(queue)) > 1:
            noted = [one.to_json() for one in queue]
            self.study.ledger.note(SUGGESTED, noted, is_own=True)
        return config

    def _start(self, config: Config, left: float) -> None:
        study = self.study
        number = study.ledger.start(config)
        if number is None:
            return  # by now it stands in the history, as another driver's
        flight = _Flight(number, config, study.clock(), left == math.inf)
        allowance = left if left < math.inf else None
        ticket = study.executor.submit(study.evaluate, config, allowance)
        self.flights[ticket] = flight
        self._tell("started", flight, Outcome(status="running"))

    def _collect(self) -> None:
        """Record the trials that end, or give up those that should have ended."""
        study, history = self.study, self._counting()
        is_endless = any(flight.is_endless for flight in self.flights.values())
        left = math.inf if is_endless else self._seconds_left(history)
        end = study.clock() + left + GRACE_SECONDS
        is_full = len(self.flights) == study.executor.slots
        is_thinking = self.thought is not None or self._trials_left(history) == 0
        if is_full and not is_thinking and self.agenda.is_oracles_turn(history):
            self.thought = self.thinker.submit(self.agenda.suggest, history)
        timeout = max(0.0, end - study.clock()) if end < math.inf else None
        ended = []
        for result in study.executor.wait(timeout):
            flight = self.flights.pop(result.ticket, None)
            if flight is not None:  # else it was given up before
                outcome = _outcome_of(result, study.clock() - flight.started)
                self._record(flight, outcome)
                ended.append((flight, outcome))
        self._let_think()
        for flight, outcome in ended:
            self._tell("finished", flight, outcome)
        if not ended and study.clock() >= end:
            self.abandon("did not come back by its deadline")

    def _let_think(self) -> None:
        wait_for([self.thought] if self.thought else [])

    def _record(self, flight: _Flight, outcome: Outcome) -> None:
        study = self.study
        study.ledger.finish(flight.number, outcome)
        used = study.budget.used(study.clock())
        study.ledger.note(SECONDS_USED, used, is_own=True)

    def _check_failures(self) -> None:
        if any(outcome.is_done for _, outcome in self._counting()):
            return
        recent = self.study.ledger.history()[self.resumed_at :]
        failed = [o.reason for _, o in recent if o.status == "failed"]
        if len(failed) >= FAILURES:
            self.abandon(INTERRUPTED)
            reasons = "\n".join(f"  - {reason}" for reason in dict.fromkeys(failed))
            raise RunError(
                f"All of the first {len(failed)} trials failed, so the study stops. "
                f"Mend what they say:\n{reasons}"
            )

    def _counting(self) -> list[tuple[Config, Outcome]]:
        """Return the history without what was stopped in earlier runs, or broken off.

        That says nothing about its Configs, which may be tried again.
        """
        return [
            (config, outcome)
            for number, (config, outcome) in enumerate(self.study.ledger.history())
            if outcome.status != "stopped"
            or (number >= self.resumed_at and outcome.reason != INTERRUPTED)
        ]

    def _trials_left(self, history: History) -> int | None:
        most = self.study.budget.trials
        tried = {config for config, _ in history}
        return None if most is None else max(0, most - len(tried))

    def _seconds_left(self, history: History) -> float:
        study = self.study
        return study.budget.remaining(study.clock()) - study.reserve(history)

    def _tell(
        self, kind: Literal["started", "finished"], flight: _Flight, outcome: Outcome
    ) -> None:
        history = self._counting()
        event = Event(
            kind=kind,
            number=flight.number,
            config=flight.config,
            outcome=outcome,
            history=history,
            trials_left=self._trials_left(history),
        )
        self.study.on_event(event)


def _outcome_of(result: Finished, seconds: float) -> Outcome:
    """Return what a trial came back with, whatever it was."""
    error, value = result.error, result.value
    if error is not None:
        logger.debug("A trial raised", exc_info=error)
    if isinstance(value, Outcome) and value.status != "running":
        return value
    if isinstance(error, OutOfTime):
        reason = str(error) or "out of time"
        return Outcome(status="stopped", reason=reason, cost_seconds=seconds)
    reason = (
        f"evaluate must return a finished Outcome, got {value!r}"
        if error is None
        else f"{type(error).__name__}: {error}".removesuffix(": ")
    )
    return Outcome(status="failed", reason=reason, cost_seconds=seconds)
