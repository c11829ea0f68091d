"""`probe`: a head on frozen features, its strength chosen by cross-validation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.adaptation.fitted import Adapted
from fewshot_automl.adaptation.heads import HeadSettings
from fewshot_automl.adaptation.kinds import HEADS, Numbers, head_numbers
from fewshot_automl.adaptation.method import Fitted, Job, Method, Profile
from fewshot_automl.modalities import Input
from fewshot_automl.space import Choice, Config, Dimension, Value
from fewshot_automl.tasks import Task

SCALING: Final = Choice(name="scaling", options=("unit", "standard"), default="unit")
CLASS_WEIGHTS: Final = Choice(
    name="class_weights", options=("none", "balanced"), default="none"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe(Method):
    """Fits a head to pooled features; the backbone stays as it is."""

    name: str = "probe"
    title: str = "Probe"
    meaning: str = "puts a simple classifier on top of an unchanged pretrained model"
    rung_zero: tuple[Mapping[str, Value], ...] = ({"head": "logistic"}, {"head": "lda"})
    rung_zero_best: tuple[Mapping[str, Value], ...] = ({"head": "rbf"},)

    def dimensions(self, profile: Profile) -> tuple[Dimension, ...]:
        """Return head, scaling and, where classes are uneven, their weights."""
        return (
            head_dimension(profile.task),
            SCALING,
            *imbalance_dimensions(profile),
        )

    def numbers(
        self, config: Config, width: int, task: Task, inputs: Sequence[Input]
    ) -> Numbers:
        """Return the size of the head."""
        return head_numbers(config, width, task, len(inputs))

    def fit(self, train: Encodings, targets: np.ndarray, job: Job) -> Fitted:
        """Fit the head with the strength that cross-validates best."""
        settings = HeadSettings(
            head=job.config.text("head"),
            scaling=job.config.text("scaling"),
            weighting=str(job.config.get("class_weights", "none")),
            seed=job.seed,
        )
        fit = HEADS[job.task.kind].fit
        head = fit(train.pooled(), targets, job.task, settings)
        return Adapted(backbone=train.backbone, head=head)


def head_dimension(task: Task) -> Choice:
    """Return the choice among the heads of a task."""
    heads = HEADS[task.kind].heads
    return Choice(name="head", options=heads, default=heads[0])


def imbalance_dimensions(profile: Profile) -> tuple[Dimension, ...]:
    """Return the class-weight dimension where classes are uneven, else nothing."""
    return (CLASS_WEIGHTS,) if profile.is_imbalanced else ()
