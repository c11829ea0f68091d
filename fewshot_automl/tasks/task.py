"""What is to be learnt: the kind of input, the kind of target, the metric."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fewshot_automl.errors import TaskError
from fewshot_automl.modalities import MODALITIES
from fewshot_automl.tasks.kind import TaskKind
from fewshot_automl.tasks.metric import Metric
from fewshot_automl.tasks.table import TASK_KINDS, kind_named, metric_named


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """States what is to be learnt; it never knows where the data came from.

    Everything that depends on the kind of target is asked of its `rules`: rooms above
    move `targets[examples, ...]` and `outputs[repeats, examples, width]`.

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
        rules = self.rules  # it refuses names that do not fit
        object.__setattr__(self, "metric", self.metric or rules.default_metric)
        metric_named(self.metric, self.kind)

    @property
    def rules(self) -> TaskKind:
        """Return what knows its targets and outputs."""
        return kind_named(self.kind)(self.names)

    @property
    def measured(self) -> Metric:
        """Return the metric that the search maximises."""
        return metric_named(self.metric, self.kind)

    @property
    def width(self) -> int:
        """Return how many numbers a model says of an example."""
        return self.rules.width

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
