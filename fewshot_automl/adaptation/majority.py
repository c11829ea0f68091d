"""`majority`: the most frequent class, whatever the example."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.adaptation.kinds import WIDE, Numbers
from fewshot_automl.adaptation.method import Fitted, Job, Method, Profile
from fewshot_automl.modalities import Input
from fewshot_automl.space import Config, Dimension
from fewshot_automl.tasks import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Frequencies:
    """Predicts the training frequencies, whatever the example."""

    proba: Float[np.ndarray, " classes"]

    @property
    def is_finite(self) -> bool:
        """Return whether every number in it is finite."""
        return bool(np.isfinite(self.proba).all())

    def outputs(self, encodings: Encodings) -> Float[np.ndarray, "examples classes"]:
        """Return the same row for every example."""
        return np.tile(self.proba, (len(encodings), 1))

    def save(self, folder: Path) -> dict[str, Any]:
        """Return the frequencies; nothing is written."""
        return {"proba": self.proba.tolist()}

    @classmethod
    def load(cls, folder: Path, state: dict[str, Any]) -> "Frequencies":
        """Return what `save` wrote."""
        return cls(proba=np.array(state["proba"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Majority(Method):
    """Predicts the most frequent class: the floor under every score."""

    name: str = "majority"
    title: str = "Most common class"
    meaning: str = "always answers the most common class; no model should be worse"
    needs_backbone: bool = False
    kinds: tuple[str, ...] = ("classes",)

    def dimensions(self, profile: Profile) -> tuple[Dimension, ...]:
        """Return nothing: there is nothing to choose."""
        return ()

    def numbers(
        self, config: Config, width: int, task: Task, inputs: Sequence[Input]
    ) -> Numbers:
        """Return the size of the frequencies."""
        return [(task.width, WIDE)]

    def fit(self, train: Encodings, targets: np.ndarray, job: Job) -> Fitted:
        """Count the classes (with one pseudo-count, so that no loss is infinite)."""
        counts = np.bincount(targets, minlength=job.task.width) + 1.0
        return Frequencies(proba=counts / counts.sum())
