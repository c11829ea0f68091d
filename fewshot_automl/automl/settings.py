"""What a fit was asked for, in a form that a resume can read again."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from fewshot_automl.errors import UserError
from fewshot_automl.space import Value
from fewshot_automl.task import Modality, TargetKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that shapes a study besides the data.

    A field, a CLI flag and a key of `study.json` have one name.

    >>> Settings(budget_seconds=60.0, methods=("probe",)).methods
    ('probe',)
    """

    target: str | None = None
    """Column of labels; not needed for class folders."""
    text: str | None = None
    """Column of texts; None infers it."""
    image: str | None = None
    """Column of images; None infers it."""
    modality: Modality | None = None
    """What an example is; None infers it."""
    target_kind: TargetKind | None = None
    """What the target is; None infers it."""
    metric: str | None = None
    """Objective to maximise; None takes the target kind's default."""
    budget_seconds: float | None = 300.0
    """Wall time of the whole command, final fit included; None for no limit."""
    trials: int | None = None
    """Most trials of the study; None for no limit."""
    backbones: tuple[str, ...] | None = None
    """Backbones to search; None takes all whose weights are at hand."""
    methods: tuple[str, ...] | None = None
    """Methods to search; None takes all that fit the modality."""
    narrow: Mapping[str, tuple[Value, ...]] = field(default_factory=dict, hash=False)
    """Other dimensions to narrow, by name: options of a choice, or two ends of
    a range, as in ``{"schedule": ("linear",), "frozen_fraction": (0.5, 0.9)}``."""
    members: int | None = None
    """Most models averaged in the result, where the labels cannot rank them; 1 for a
    single model. None takes 3, or 5 with much time."""
    seed: int = 0
    """Of folds, suggestions and trainings."""
    is_strict: bool = False
    """Whether unreadable examples are an error instead of being left out."""
    storage: str | None = None
    """Optuna storage URL; None keeps a journal file in the output folder."""
    oracle: str = "gp"
    """Row of `ORACLES`."""
    executor: str = "in_process"
    """Row of `EXECUTORS`."""
    workers: int = 1
    """Trials that run side by side."""
    device: str | None = None
    """Where to train; None chooses."""

    def __post_init__(self) -> None:
        """Check what no other room checks."""
        if self.budget_seconds is None and self.trials is None:
            raise UserError(
                "Budget must be a time or a number of trials, got neither. "
                "Give --budget 5min or --trials 20."
            )
        if self.members is not None and self.members < 1:
            raise UserError(f"Members must be 1 or more, got {self.members}. Use 1.")
        if self.seed < 0:
            raise UserError(f"Seed must be 0 or more, got {self.seed}. Use 0.")
        for name in ("backbones", "methods"):
            if getattr(self, name) == ():
                raise UserError(f"{name} must name at least one, got none.")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {**asdict(self), "narrow": {n: list(v) for n, v in self.narrow.items()}}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Settings":
        """Return the settings that `to_json` wrote."""
        known = {field.name for field in fields(cls)}
        read: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
            if name in known
        }
        narrow = read.get("narrow", {})
        read["narrow"] = {name: tuple(ends) for name, ends in narrow.items()}
        return cls(**read)
