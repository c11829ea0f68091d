"""What a trial comes back with: the plain value that crosses from models to search."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

from fewshot_automl.errors import ShapeError

Status = Literal["done", "failed", "stopped", "running"]
STATUSES: Final[tuple[Status, ...]] = get_args(Status)

ADVICE_PREFIX: Final = "transfer_"
"""Begins the names of objectives that advise the search. They estimate nothing that a
person would want to know, so nothing shows them."""

REFINEMENT: Final = "refinement_loss"
"""Name of the objective that says with less luck than a score what a trial is worth:
the log loss of its out-of-fold predictions, their confidence put right."""
FIRST_REFINEMENT: Final = "refinement_loss_first"
"""The same of the folds alone that a first look runs: what a trial that has looked, and
one of all folds, can be compared by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Says what became of one trial.

    Scores are oriented so that greater is better, whatever the metric (a log loss
    arrives negated). A failed trial has a reason and no score; it never counts as
    a score of zero. A `stopped` trial ran out of its seconds and says nothing about
    its Config; a `running` one is still under way. A done trial that has only looked
    at its first folds has folds left; a later trial of the same Config may run them,
    and then takes its place.

    >>> Outcome(status="failed", reason="loss became NaN at step 3").is_done
    False
    """

    status: Status
    """How the trial ended."""
    scores: tuple[float, ...] = ()
    """Score of each fold that was run, in their order, greater is better; NaN where a
    fold alone has none."""
    mean: float = math.nan
    """The estimate the search maximises; NaN unless done."""
    standard_error: float = math.nan
    """Standard error of `mean`, known to the search as noise; NaN unless done."""
    cost_seconds: float = 0.0
    """Wall time of the trial."""
    reason: str = ""
    """Why it failed or was stopped; empty when done."""
    objectives: Mapping[str, float] = field(default_factory=dict)
    """Other measured quantities by name: accuracy, log_loss, parameters, flops, ..."""
    predictions: str = ""
    """Out-of-fold predictions: a file, relative to the study's folder."""
    folds_left: int = 0
    """Folds that another trial of the Config would add; mean, standard error and
    objectives are of the folds run so far."""

    def __post_init__(self) -> None:
        """Check the status and freeze the mapping."""
        if self.status not in STATUSES:
            raise ShapeError(
                f"Status must be one of {', '.join(STATUSES)}, got {self.status!r}."
            )
        if self.status == "done" and not math.isfinite(self.mean):
            raise ShapeError(
                f"A done trial must have a finite mean score, got {self.mean}. "
                "Report it as failed, with the reason."
            )
        if self.folds_left < 0 or (self.folds_left and not self.is_done):
            raise ShapeError(
                "Folds left must be 0 or more, and 0 unless the trial is done, got "
                f"{self.folds_left} of a trial that is {self.status}."
            )
        object.__setattr__(self, "objectives", MappingProxyType(dict(self.objectives)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as plain values (a mapping proxy has no pickle of its own)."""
        return _from_json, (self.to_json(),)

    @property
    def is_done(self) -> bool:
        """Return whether the trial has a score."""
        return self.status == "done"

    @property
    def is_whole(self) -> bool:
        """Return whether the trial has a score of all its folds.

        >>> Outcome(status="done", scores=(0.5,), mean=0.5, folds_left=2).is_whole
        False
        """
        return self.is_done and self.folds_left == 0

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values; NaN becomes None."""
        return {
            "status": self.status,
            "scores": [_finite(score) for score in self.scores],
            "mean": _finite(self.mean),
            "standard_error": _finite(self.standard_error),
            "cost_seconds": self.cost_seconds,
            "reason": self.reason,
            "objectives": dict(self.objectives),
            "predictions": self.predictions,
            "folds_left": self.folds_left,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Outcome":
        """Return the outcome that `to_json` wrote."""
        return _from_json(values)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _from_json(values: Mapping[str, Any]) -> Outcome:
    return Outcome(
        **{
            **values,
            "mean": _number(values["mean"]),
            "standard_error": _number(values["standard_error"]),
            "scores": tuple(map(_number, values["scores"])),
        }
    )
