"""What a method of adaptation is: its dimensions, and how it is fitted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.backbones.backbone import Backbone
from fewshot_automl.errors import TrialError
from fewshot_automl.space import Config, Dimension
from fewshot_automl.tasks import Task
from fewshot_automl.training.placement import Placement


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What the dimensions of a method may depend on: the size of the problem."""

    task: Task
    """What is to be learnt."""
    class_counts: tuple[int, ...]
    """Labelled examples of each class."""

    @property
    def examples(self) -> int:
        """Return the number of labelled examples."""
        return sum(self.class_counts)

    @property
    def is_imbalanced(self) -> bool:
        """Return whether the largest class has over 1.5 times the smallest's examples.

        Below that, weighting classes changes less than the folds' own noise.
        """
        return max(self.class_counts) > 1.5 * min(self.class_counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """All that one fit is told besides its examples and labels."""

    task: Task
    """What is to be learnt."""
    config: Config
    """The values of the method's dimensions."""
    seed: int
    """Seed of everything random in the fit."""
    placement: Placement
    """Where it trains."""
    deadline: float | None = None
    """`time.monotonic()` at which the fit must be over; None for no limit."""


@runtime_checkable
class Fitted(Protocol):
    """A fitted model: probabilities for examples, and a form on disk."""

    @property
    def is_finite(self) -> bool:
        """Return whether every number in it is finite."""
        ...

    def predict_proba(
        self, encodings: Encodings
    ) -> Float[np.ndarray, "examples classes"]:
        """Return class probabilities; each row sums to 1.

        During a study, `encodings` come from the frozen backbone the fit began with;
        after loading, from the fitted model's own (`encoder_backbone`).
        """
        ...

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the arrays into a folder; return what else `load` needs, as JSON."""
        ...

    @classmethod
    def load(cls, folder: Path, state: dict[str, Any]) -> "Fitted":
        """Return what `save` wrote, ready to predict by itself."""
        ...


@runtime_checkable
class Method(Protocol):
    """A way to adapt; one row of `adaptation.table.METHODS`."""

    @property
    def name(self) -> str:
        """Return its name in Configs, on the command line and in reports."""
        ...

    @property
    def needs_backbone(self) -> bool:
        """Return whether it reads a backbone's features."""
        ...

    @property
    def is_dear(self) -> bool:
        """Return whether it trains by steps; the others are quick, and in rung 0."""
        ...

    @property
    def modalities(self) -> tuple[str, ...]:
        """Return what it can be used on."""
        ...

    def dimensions(self, profile: Profile) -> tuple[Dimension, ...]:
        """Return its dimensions; the condition on `method` is added by the caller.

        Two methods may share a dimension: then both return the same one.
        """
        ...

    def fit(
        self, train: Encodings, labels: Int[np.ndarray, " examples"], job: Job
    ) -> Fitted:
        """Fit to labelled examples.

        Raises:
            TrialError: If it cannot be fitted (NaN loss, out of memory).
            OutOfTime: If the deadline passed first.
        """
        ...


@runtime_checkable
class TrainsTogether(Protocol):
    """A method whose fits can run side by side on one device, as a cohort."""

    def is_alike(self, backbone: Backbone, one: Config, other: Config) -> bool:
        """Return whether two of its Configs can be in one cohort."""
        ...

    def slot_bytes(
        self, train: Encodings, labels: Int[np.ndarray, " examples"], job: Job
    ) -> int:
        """Return how much memory one fit more in a cohort takes."""
        ...

    def fit_together(
        self,
        encodings: Encodings,
        labels: Int[np.ndarray, " examples"],
        chosen: Sequence[np.ndarray],
        jobs: Sequence[Job],
    ) -> list[Fitted | TrialError]:
        """Fit several times, each as `Method.fit` would alone.

        Args:
            encodings: All examples.
            labels: Their class indices.
            chosen: Of each fit, the places of its examples.
            jobs: Of each fit; their Configs are alike.

        Returns:
            For each fit its model, or the error that ended it.

        Raises:
            OutOfTime: If the deadline of the first job passes.
        """
        ...


def class_weights(
    labels: Int[np.ndarray, " examples"], classes: int, rule: str
) -> Float[np.ndarray, " classes"]:
    """Return the weight of each class in the loss; 1 on average over examples.

    Args:
        labels: Class indices.
        classes: Number of classes.
        rule: ``none`` or ``balanced`` (inverse frequency).

    Source:
        King and Zeng, Political Analysis 2001, sec. 4.2.

    >>> class_weights(np.array([0, 0, 0, 1]), 2, "balanced").round(3).tolist()
    [0.667, 2.0]
    """
    if rule == "none":
        return np.ones(classes)
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    weights = np.zeros(classes)
    present = counts > 0
    weights[present] = len(labels) / (present.sum() * counts[present])
    return weights
