"""What a trial comes back with: the plain value that crosses from models to search."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

import numpy as np
from jaxtyping import Float32

from fewshot_automl.errors import ShapeError
from fewshot_automl.space import Config

Status = Literal["done", "failed", "stopped", "running"]
STATUSES: Final[tuple[Status, ...]] = get_args(Status)

ADVICE_PREFIX: Final = "transfer_"
"""Begins the names of measures that advise the search. They estimate nothing that a
person would want to know, so nothing shows them."""

REFINEMENT: Final = "refinement_loss"
"""Name of the measure that says with less luck than a score what a trial is worth:
the log loss of its out-of-fold predictions, their confidence put right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Says what became of one trial.

    Scores are oriented so that greater is better, whatever the metric (a log loss
    arrives negated). A failed trial has a reason and no score; it never counts as
    a score of zero. A `stopped` trial ran out of its seconds and says nothing about
    its Config; a `running` one is still under way.

    >>> Outcome(status="failed", reason="loss became NaN at step 3").is_done
    False
    """

    status: Status
    """How the trial ended."""
    scores: tuple[float, ...] = ()
    """Score of each fold, in their order, greater is better; NaN where a fold alone
    has none."""
    mean: float = math.nan
    """The estimate the search maximises; NaN unless done."""
    standard_error: float = math.nan
    """Standard error of `mean`, known to the search as noise; NaN unless done."""
    cost_seconds: float = 0.0
    """Wall time of the trial."""
    reason: str = ""
    """Why it failed or was stopped; empty when done."""
    measures: Mapping[str, float] = field(default_factory=dict)
    """Other measured quantities by name: accuracy, log_loss, parameters, flops, ..."""
    outputs: Float32[np.ndarray, "repeats examples width"] | None = field(
        default=None, compare=False, repr=False
    )
    """Out-of-fold outputs; None where there are none or a ledger keeps them."""

    def __post_init__(self) -> None:
        """Check the status."""
        if self.status not in STATUSES:
            raise ShapeError(
                f"Status must be one of {', '.join(STATUSES)}, got {self.status!r}."
            )
        if self.status == "done" and not math.isfinite(self.mean):
            raise ShapeError(
                f"A done trial must have a finite mean score, got {self.mean}. "
                "Report it as failed, with the reason."
            )

    @property
    def is_done(self) -> bool:
        """Return whether the trial has a score."""
        return self.status == "done"

    def to_json(self) -> dict[str, Any]:
        """Return the fields but `outputs` as plain JSON values; NaN becomes None."""
        return {
            "status": self.status,
            "scores": [_finite(score) for score in self.scores],
            "mean": _finite(self.mean),
            "standard_error": _finite(self.standard_error),
            "cost_seconds": self.cost_seconds,
            "reason": self.reason,
            "measures": dict(self.measures),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Outcome":
        """Return the outcome that `to_json` wrote.

        In what version 0.1 wrote, measures are called objectives.
        """
        return cls(
            status=values["status"],
            scores=tuple(map(_number, values["scores"])),
            mean=_number(values["mean"]),
            standard_error=_number(values["standard_error"]),
            cost_seconds=values["cost_seconds"],
            reason=values["reason"],
            measures=values.get("measures") or values.get("objectives", {}),
        )


History = Sequence[tuple[Config, Outcome]]
"""Every trial so far in order of submission, whatever its status."""


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
