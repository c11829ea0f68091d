"""`prototype`: nearest class mean, or nearest neighbours, on frozen features."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Int

from fewshot_automl.adaptation.class_heads import inner_folds
from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.adaptation.fitted import Adapted
from fewshot_automl.adaptation.heads import NeighbourHead, Scaling, unit_rows
from fewshot_automl.adaptation.kinds import FLOAT, WIDE, Numbers
from fewshot_automl.adaptation.method import Fitted, Job, Method, Profile
from fewshot_automl.adaptation.probe import SCALING
from fewshot_automl.modalities import Input
from fewshot_automl.space import Choice, Config, Dimension, When
from fewshot_automl.space import Int as IntDimension
from fewshot_automl.tasks import Task

SHARPNESSES: Final = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Inverse temperatures of the cosine that cross-validation chooses from."""

RULE: Final = Choice(name="rule", options=("mean", "knn"), default="mean")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prototype(Method):
    """Votes by cosine to class means or to the nearest training examples.

    Both are one head in numpy, whose sharpness is cross-validated: scikit-learn's
    neighbours and centroids give no probabilities by cosine.

    Source:
        Snell et al., NeurIPS 2017 (class means); centring first, Wang et al.,
        SimpleShot, arXiv:1911.04623.
    """

    name: str = "prototype"
    title: str = "Prototype"
    meaning: str = "answers the class whose average example is nearest"
    kinds: tuple[str, ...] = ("classes",)

    def dimensions(self, profile: Profile) -> tuple[Dimension, ...]:
        """Return the rule, the scaling and the number of neighbours."""
        most = int(np.clip(2 * max(profile.strata), 3, 31))
        neighbours = IntDimension(
            name="neighbours",
            low=1,
            high=most,
            log=True,
            default=min(5, most),
            when=(When("rule", ("knn",)),),
        )
        return (RULE, SCALING, neighbours)

    def numbers(
        self, config: Config, width: int, task: Task, inputs: Sequence[Input]
    ) -> Numbers:
        """Return the sizes of scaling and points."""
        points = len(inputs) if config["rule"] == "knn" else task.width
        held = points * (width + task.width)
        return [(1, 1), (2 * width + held, FLOAT), (2, WIDE)]

    def fit(self, train: Encodings, targets: np.ndarray, job: Job) -> Fitted:
        """Place the points; the sharpness is the one that cross-validates best."""
        features, labels = train.pooled(), targets
        neighbours = int(job.config.get("neighbours", 0))
        scaling = job.config.text("scaling")
        losses = np.zeros(len(SHARPNESSES))
        for held_out in inner_folds(labels, job.seed):
            kept = ~held_out
            if held_out.any() and kept.any():
                heads = _heads(
                    features[kept], labels[kept], job.task.width, scaling, neighbours
                )
                truth = labels[held_out]
                for position, head in enumerate(heads):
                    proba = head.outputs(features[held_out])
                    losses[position] -= np.log(
                        proba[np.arange(len(truth)), truth]
                    ).sum()
        best = int(np.argmin(losses))
        head = _heads(features, labels, job.task.width, scaling, neighbours, [best])[0]
        return Adapted(backbone=train.backbone, head=head)


def _heads(
    features: Float[np.ndarray, "examples width"],
    labels: Int[np.ndarray, " examples"],
    classes: int,
    scaling: str,
    neighbours: int,
    wanted: Sequence[int] = tuple(range(len(SHARPNESSES))),
) -> list[NeighbourHead]:
    """Return one head a sharpness; `neighbours` of 0 means class means."""
    rule = Scaling.fit(features, scaling)
    points = rule.apply(features)
    votes = np.eye(classes)[labels]
    if neighbours == 0:
        known = np.unique(labels)
        points = np.stack([points[labels == label].mean(axis=0) for label in known])
        votes = np.eye(classes)[known]
    points = unit_rows(points)
    return [
        NeighbourHead(
            scaling=rule,
            points=points.astype(np.float32),
            votes=votes.astype(np.float32),
            neighbours=min(neighbours, len(points)) if neighbours else len(points),
            sharpness=SHARPNESSES[position],
        )
        for position in wanted
    ]
