"""What is to be learnt: the kind of input, the kind of target, the metric."""

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from fewshot_automl.errors import TaskError

Modality = Literal["text", "image"]
TargetKind = Literal["binary", "multiclass"]

MODALITIES: Final[tuple[Modality, ...]] = get_args(Modality)
TARGET_KINDS: Final[tuple[TargetKind, ...]] = get_args(TargetKind)

DEFAULT_METRIC: Final[dict[TargetKind, str]] = {
    "binary": "accuracy",
    "multiclass": "accuracy",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """States what is to be learnt; it never knows where the data came from.

    Labels are class indices in the order of `class_names`; `UNLABELLED` (-1) marks
    an example nobody has labelled. New target kinds (multilabel, regression) add a
    value to `TargetKind`; whoever branches on the kind then has to say what it does.

    >>> Task(modality="text", target="binary", class_names=("ham", "spam")).metric
    'accuracy'
    """

    modality: Modality
    """What one example is."""
    target: TargetKind
    """What is predicted for it."""
    class_names: tuple[str, ...]
    """Names of the classes; their position is the class index."""
    metric: str = "accuracy"
    """Name of the objective that the search maximises (see `evaluation.objectives`)."""

    def __post_init__(self) -> None:
        """Check that the fields agree with each other."""
        if self.modality not in MODALITIES:
            raise TaskError(
                f"Modality must be one of {', '.join(MODALITIES)}, "
                f"got {self.modality!r}."
            )
        if self.target not in TARGET_KINDS:
            raise TaskError(
                f"Target kind must be one of {', '.join(TARGET_KINDS)}, "
                f"got {self.target!r}."
            )
        if len(set(self.class_names)) != len(self.class_names):
            raise TaskError(f"Class names must be distinct, got {self.class_names!r}.")
        if len(self.class_names) < 2:
            raise TaskError(
                f"A classification target must have at least 2 classes, got "
                f"{len(self.class_names)}. Add examples of another class."
            )
        if (self.target == "binary") != (len(self.class_names) == 2):
            raise TaskError(
                f"Target kind {self.target!r} does not fit "
                f"{len(self.class_names)} classes."
            )

    @property
    def classes(self) -> int:
        """Return the number of classes."""
        return len(self.class_names)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {
            "modality": self.modality,
            "target": self.target,
            "class_names": list(self.class_names),
            "metric": self.metric,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Task":
        """Return the task that `to_json` wrote."""
        return cls(**{**values, "class_names": tuple(values["class_names"])})


UNLABELLED: Final = -1
