"""What a fit was asked for, in a form that a resume can read again."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from fewshot_automl.errors import UserError, unknown_name
from fewshot_automl.evaluation.measures import MEASURES, SCORE
from fewshot_automl.oracle.goals import Goal, Limit
from fewshot_automl.space import Value


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
    modality: str | None = None
    """What an example is; None infers it."""
    target_kind: str | None = None
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
    objectives: tuple[str, ...] = (SCORE,)
    """What to improve, `score` always among them: any of `MEASURES` beside it. The
    study then looks for a front of trade-offs."""
    max_parameters: float | None = None
    """Most numbers that the model may hold, all members of an average together."""
    max_flops: float | None = None
    """Most floating-point operations that its backbones may take for one example."""
    max_latency_ms: float | None = None
    """Most milliseconds that predicting one example may take on this machine."""
    max_memory_mb: float | None = None
    """Most millions of bytes that its weights may take."""
    min_worst_recall: float | None = None
    """Least recall, out of fold, of the class that is found least."""
    seed: int = 0
    """Of folds, suggestions and trainings."""
    is_strict: bool = False
    """Whether unreadable examples are an error instead of being left out."""
    storage: str | None = None
    """Optuna storage URL; None keeps a journal file in the output folder."""
    oracle: str = "gp"
    """Row of `ORACLES`."""
    prior: str | None = None
    """File of past studies that advise the oracle; `none` for no advice. None takes
    the one that comes with the package."""
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
        object.__setattr__(self, "objectives", _objectives(self.objectives))
        for measure in MEASURES.values():
            _check_limit(measure.limit, getattr(self, measure.limit))

    @property
    def goals(self) -> tuple[Goal, ...]:
        """Return the objectives as an oracle takes them, the score first.

        >>> [str(goal) for goal in Settings(objectives=("latency_ms",)).goals]
        ['most score', 'least latency_ms']
        """
        return tuple(
            Goal(name, maximise=name == SCORE or MEASURES[name].is_maximised)
            for name in self.objectives
        )

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Return what the model must keep.

        >>> [str(limit) for limit in Settings(max_flops=1e9).limits]
        ['flops at most 1e+09']
        """
        found = []
        for name, measure in MEASURES.items():
            end = getattr(self, measure.limit)
            if end is not None and measure.is_maximised:
                found.append(Limit(name, least=float(end)))
            elif end is not None:
                found.append(Limit(name, most=float(end)))
        return tuple(found)

    @property
    def inputs(self) -> dict[str, str]:
        """Return the column of the examples by what it holds, if one was named."""
        named = {"text": self.text, "image": self.image}
        return {name: column for name, column in named.items() if column is not None}

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


def _objectives(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return each name once, the score first, whether it was named or not."""
    known = (SCORE, *MEASURES)
    for name in names:
        if name not in known:
            raise unknown_name("objective", name, known, "fewshot fit --help")
    return tuple(dict.fromkeys((SCORE, *names)))


def _check_limit(name: str, value: float | None) -> None:
    if value is None:
        return
    if name.startswith("min_"):
        if not 0 <= value <= 1:
            raise UserError(f"{name} must be from 0 to 1, got {value}. Use 0.5.")
    elif not 0 < value < math.inf:
        raise UserError(
            f"{name} must be more than 0, got {value}. Leave it out for no limit."
        )
