"""What is to be learnt: the kind of input, the kind of target, the metric."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from fewshot_automl.errors import TaskError
from fewshot_automl.finding import Finding
from fewshot_automl.modalities import MODALITIES
from fewshot_automl.tasks.kind import TaskKind
from fewshot_automl.tasks.metric import Metric
from fewshot_automl.tasks.table import TASK_KINDS, kind_named, metric_named

Outputs = Float[np.ndarray, "examples width"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """States what is to be learnt; it never knows where the data came from.

    Everything that depends on the kind of target is asked of it: rooms above move
    `targets[examples, ...]` and `outputs[repeats, examples, width]`.

    >>> Task(modality="text", names=("ham", "spam")).metric
    'accuracy'
    """

    modality: str
    """What one example is; a name of `MODALITIES`."""
    kind: str = "classes"
    """What is predicted for it; a name of `TASK_KINDS`."""
    names: tuple[str, ...] = ()
    """Names of what is told apart (classes); a target may be a place among them."""
    metric: str = ""
    """Name of what predictions are scored by; the kind's default if empty."""

    def __post_init__(self) -> None:
        """Check that the fields agree with each other."""
        if self.modality not in MODALITIES:
            raise TaskError(
                f"Modality must be one of {', '.join(MODALITIES)}, "
                f"got {self.modality!r}."
            )
        if self.kind not in TASK_KINDS:
            raise TaskError(
                f"Target kind must be one of {', '.join(TASK_KINDS)}, "
                f"got {self.kind!r}."
            )
        self.rules.check(self.names)
        object.__setattr__(self, "metric", self.metric or self.rules.default_metric)
        metric_named(self.metric, self.kind)

    @property
    def rules(self) -> TaskKind:
        """Return the row of `TASK_KINDS` that the task follows."""
        return kind_named(self.kind)

    @property
    def measured(self) -> Metric:
        """Return the metric that the search maximises."""
        return metric_named(self.metric, self.kind)

    @property
    def width(self) -> int:
        """Return how many numbers a model says of an example."""
        return self.rules.width(self.names)

    def is_labelled(self, targets: np.ndarray) -> Bool[np.ndarray, " examples"]:
        """Return which examples somebody has labelled."""
        return self.rules.is_labelled(targets)

    def describe(self, targets: np.ndarray) -> str:
        """Return one sentence about targets."""
        return self.rules.describe(targets, self.names)

    def say(self, target: Any) -> str:
        """Return one target as people read it."""
        return self.rules.say(target, self.names)

    def findings(self, targets: np.ndarray, origins: Sequence[str]) -> list[Finding]:
        """Return what is odd about targets."""
        return self.rules.findings(targets, self.names, origins)

    def facts(self, targets: np.ndarray) -> dict[str, Any]:
        """Return what a report says about labelled targets, as JSON."""
        return self.rules.facts(targets, self.names)

    def strata(self, targets: np.ndarray) -> Int[np.ndarray, "examples strata"]:
        """Return which strata each labelled example is in, for folds."""
        return self.rules.strata(targets, self.names)

    def no_information(self, targets: np.ndarray) -> Float[np.ndarray, " width"]:
        """Return the one output that is best where nothing of the input is known."""
        return self.rules.no_information(targets, self.names)

    def decode(self, outputs: Outputs) -> list[Any]:
        """Return what each row of outputs decides for, as people read it."""
        return self.rules.decode(outputs, self.names)

    def columns(self, outputs: Outputs) -> dict[str, list[Any]]:
        """Return what a table of predictions holds beside the decisions."""
        return self.rules.columns(outputs, self.names)

    def fit_calibration(
        self, targets: np.ndarray, outputs: Float[np.ndarray, "repeats examples width"]
    ) -> dict[str, float]:
        """Return what `calibrate` needs, from out-of-fold outputs of all repeats."""
        stacked = np.concatenate([targets] * len(outputs))
        return self.rules.fit_calibration(stacked, outputs.reshape(len(stacked), -1))

    def calibrate(
        self,
        outputs: Float[np.ndarray, "*rows width"],
        calibration: Mapping[str, float],
    ) -> Float[np.ndarray, "*rows width"]:
        """Return outputs that can be believed; an empty mapping changes nothing."""
        flat = outputs.reshape(-1, outputs.shape[-1])
        return self.rules.calibrate(flat, calibration).reshape(outputs.shape)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {
            "modality": self.modality,
            "kind": self.kind,
            "names": list(self.names),
            "metric": self.metric,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Task":
        """Return the task that `to_json` wrote, also that of version 0.1."""
        return cls(
            modality=values["modality"],
            kind=values.get("kind", "classes"),
            names=tuple(values.get("names", values.get("class_names", ()))),
            metric=values["metric"],
        )
