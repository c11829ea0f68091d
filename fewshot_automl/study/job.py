"""What a study sends to its executor, and how it reads what comes back."""

from dataclasses import dataclass
from typing import Any

from fewshot_automl.errors import OutOfTime
from fewshot_automl.executors import Finished
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config
from fewshot_automl.study.parts import Cohorts, Evaluate


@dataclass(frozen=True, slots=True)
class Step:
    """Says what one job tries."""

    configs: tuple[Config, ...]
    """At least one."""
    is_first_look: bool = False
    """Whether the only one runs on its first folds alone."""


@dataclass(frozen=True, slots=True)
class Work:
    """Runs the trials of one job: a single one by `evaluate`, several as a cohort.

    All go to other processes as one value, so that what they share stays shared.
    """

    evaluate: Evaluate
    """Tries one Config."""
    cohorts: Cohorts | None = None
    """Tries several; None if there never are several."""
    first_look: Evaluate | None = None
    """Tries one on its first folds; None if all trials run all of them."""

    def __call__(self, step: Step, deadline: float | None) -> Any:
        """Return a tuple with the Outcome of each Config, if all goes well."""
        configs = step.configs
        if step.is_first_look:
            assert self.first_look is not None
            return (self.first_look(configs[0], deadline),)
        if len(configs) == 1:
            return (self.evaluate(configs[0], deadline),)
        assert self.cohorts is not None
        return self.cohorts(configs, deadline)


def outcomes_of(result: Finished, trials: int, seconds: float) -> tuple[Outcome, ...]:
    """Return what each trial of a job came back with, whatever it was.

    Args:
        result: How the call of `Work` ended.
        trials: How many trials the job has.
        seconds: How long it took; shared out where the job does not say.

    >>> from fewshot_automl.executors import Ticket
    >>> result = Finished(ticket=Ticket(0), error=MemoryError("no room"))
    >>> [(o.reason, o.cost_seconds) for o in outcomes_of(result, 2, 3.0)]
    [('MemoryError: no room', 1.5), ('MemoryError: no room', 1.5)]
    """
    share = seconds / trials
    error, value = result.error, result.value
    if isinstance(error, OutOfTime):
        reason = str(error) or "out of time"
        same = Outcome(status="stopped", reason=reason, cost_seconds=share)
    elif error is not None:
        reason = f"{type(error).__name__}: {error}".removesuffix(": ")
        same = Outcome(status="failed", reason=reason, cost_seconds=share)
    elif not isinstance(value, tuple) or len(value) != trials:
        got = f"{len(value)} of them" if isinstance(value, tuple) else repr(value)
        reason = f"cohorts must return a tuple of {trials} finished Outcomes, got {got}"
        same = Outcome(status="failed", reason=reason, cost_seconds=share)
    else:
        return tuple(_outcome(part, share) for part in value)
    return (same,) * trials


def _outcome(value: object, seconds: float) -> Outcome:
    if isinstance(value, Outcome) and value.status != "running":
        return value
    reason = f"evaluate must return a finished Outcome, got {value!r}"
    return Outcome(status="failed", reason=reason, cost_seconds=seconds)
