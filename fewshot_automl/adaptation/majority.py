"""`majority`: one answer, whatever the example; of classes, the most frequent."""

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
class Constant:
    """Predicts the same for every example; of classes, the training frequencies."""

    output: Float[np.ndarray, " outputs"]

    @property
    def is_finite(self) -> bool:
        """Return whether every number in it is finite."""
        return bool(np.isfinite(self.output).all())

    def outputs(self, encodings: Encodings) -> Float[np.ndarray, "examples outputs"]:
        """Return the same row for every example."""
        return np.tile(self.output, (len(encodings), 1))

    def save(self, folder: Path) -> dict[str, Any]:
        """Return the output; nothing is written."""
        return {"output": self.output.tolist()}

    @classmethod
    def load(cls, folder: Path, state: dict[str, Any]) -> "Constant":
        """Return what `save` wrote."""
        return cls(output=np.array(state["output"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Majority(Method):
    """Predicts what is best without looking: the floor under every score."""

    name: str = "majority"
    title: str = "Constant answer"
    meaning: str = (
        "always gives the same answer, such as the most common class; no model should "
        "be worse"
    )
    needs_backbone: bool = False

    def dimensions(self, profile: Profile) -> tuple[Dimension, ...]:
        """Return nothing: there is nothing to choose."""
        return ()

    def numbers(
        self, config: Config, width: int, task: Task, inputs: Sequence[Input]
    ) -> Numbers:
        """Return the size of the output."""
        return [(task.width, WIDE)]

    def fit(self, train: Encodings, targets: np.ndarray, job: Job) -> Fitted:
        """Ask the task for its best answer without information."""
        return Constant(output=job.task.rules.no_information(targets))
