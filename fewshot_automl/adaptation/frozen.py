"""Methods on frozen features: `probe` puts a head on them, `prototype` compares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from fewshot_automl.adaptation.class_heads import Labels, inner_folds
from fewshot_automl.adaptation.encodings import BLOCKS, Encodings
from fewshot_automl.adaptation.fitted import Adapted
from fewshot_automl.adaptation.heads import (
    Head,
    NeighbourHead,
    Rows,
    Scaling,
    unit_rows,
)
from fewshot_automl.adaptation.kinds import FLOAT, HEADS, WIDE, Numbers, head_numbers
from fewshot_automl.adaptation.method import Fitted, Job, Method, Profile
from fewshot_automl.modalities import Input, modality_named
from fewshot_automl.space import Choice, Config, Dimension, Int, Value, When
from fewshot_automl.tasks import Task

SCALING: Final = Choice(name="scaling", options=("unit", "standard"), default="unit")
CLASS_WEIGHTS: Final = Choice(
    name="class_weights", options=("none", "balanced"), default="none"
)
RULE: Final = Choice(name="rule", options=("mean", "knn"), default="mean")
FEWEST_UNLABELLED: Final = 50
"""Examples without a label from which on heads may learn from them."""
WINDOWS: Final[Mapping[str, str]] = {"long_texts": "windows"}
"""What a Config says where all of a long text is read, in windows."""
SHARPNESSES: Final = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Inverse temperatures of the cosine that cross-validation chooses from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe(Method):
    """Fits a head to pooled features; the backbone stays as it is."""

    name: str = "probe"
    title: str = "Probe"
    meaning: str = "puts a simple classifier on top of an unchanged pretrained model"
    rung_zero: tuple[Mapping[str, Value], ...] = ({"head": "logistic"}, {"head": "lda"})
    rung_zero_best: tuple[Mapping[str, Value], ...] = (
        {"head": "mixture"},
        {"head": "rbf"},
        {"head": "logistic", "class_names": "none"},
        WINDOWS,
    )

    def dimensions(self, profile: Profile) -> tuple[Dimension, ...]:
        """Return head, scaling and, where classes are uneven, their weights."""
        head = head_dimension(profile.task, profile.unlabelled)
        more = (*name_dimensions(profile.task, head), *imbalance_dimensions(profile))
        return (head, SCALING, *more, *reading_dimensions(profile))

    def numbers(
        self, config: Config, width: int, task: Task, inputs: Sequence[Input]
    ) -> Numbers:
        """Return the sizes of the head and its scaling."""
        return head_numbers(config, _read_width(config, width), task, len(inputs))

    def fit(self, train: Encodings, targets: np.ndarray, job: Job) -> Fitted:
        """Fit the head with the strength that cross-validates best."""
        more = {}
        if job.config.get("class_names", "none") != "none":
            more["names"] = _features(train.of(job.task.words), job.config)
        if job.unlabelled is not None and reads_unlabelled(job.config):
            more["unlabelled"] = _features(job.unlabelled, job.config)
        head = job.fit_head(_features(train, job.config), targets, **more)
        return _adapted(train, job.config, head)


def head_dimension(task: Task, unlabelled: int = 0) -> Choice:
    """Return the choice among the heads of a task."""
    heads = HEADS[task.kind].heads
    if unlabelled >= FEWEST_UNLABELLED:
        heads += HEADS[task.kind].unlabelled_heads
    return Choice(name="head", options=heads, default=heads[0])


def name_dimensions(task: Task, head: Choice) -> tuple[Dimension, ...]:
    """Return whether texts are compared with names, where these are words."""
    able = HEADS[task.kind].takes_names
    heads = tuple(name for name in head.options if name in able)
    if not heads or task.modality != "text" or not task.words:
        return ()
    when = (When("head", heads),)
    return (Choice(name="class_names", options=("examples", "none"), when=when),)


def imbalance_dimensions(profile: Profile) -> tuple[Dimension, ...]:
    """Return the class-weight dimension where classes are uneven, else nothing."""
    return (CLASS_WEIGHTS,) if profile.is_imbalanced else ()


def reading_dimensions(profile: Profile) -> tuple[Dimension, ...]:
    """Return which blocks are read, if not only the last, and how long texts are.

    The latter of backbones that cut many.
    """
    found: list[Dimension] = []
    blocks = modality_named(profile.task.modality).blocks
    if len(blocks) > 1:
        found.append(Choice(name="blocks", options=blocks))
    if profile.cut_by:
        when = When("backbone", profile.cut_by)
        options = ("beginning", WINDOWS["long_texts"])
        found.append(Choice(name="long_texts", options=options, when=(when,)))
    return tuple(found)


def _blocks(config: Config) -> str:
    return str(config.get("blocks", "last"))


def _read_width(config: Config, width: int) -> int:
    return width * len(BLOCKS[_blocks(config)])


def _features(encodings: Encodings, config: Config) -> Rows:
    return encodings.pooled(whole=reads_windows(config), blocks=_blocks(config))


def _adapted(train: Encodings, config: Config, head: Head) -> Adapted:
    return Adapted(
        backbone=train.backbone,
        head=head,
        is_whole=reads_windows(config),
        blocks=_blocks(config),
    )


def reads_unlabelled(config: Config) -> bool:
    """Return whether a Config's head learns from unlabelled examples."""
    head = str(config.get("head", ""))
    return any(head in row.unlabelled_heads for row in HEADS.values())


def reads_windows(config: Config) -> bool:
    """Return whether all of a long text is read."""
    return config.get("long_texts", "beginning") == WINDOWS["long_texts"]


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
        neighbours = Int(
            name="neighbours",
            low=1,
            high=most,
            log=True,
            default=min(5, most),
            when=(When("rule", ("knn",)),),
        )
        return (RULE, SCALING, neighbours, *reading_dimensions(profile))

    def numbers(
        self, config: Config, width: int, task: Task, inputs: Sequence[Input]
    ) -> Numbers:
        """Return the sizes of scaling and points."""
        points = len(inputs) if config["rule"] == "knn" else task.width
        width = _read_width(config, width)
        held = points * (width + task.width)
        return [(1, 1), (2 * width + held, FLOAT), (2, WIDE)]

    def fit(self, train: Encodings, targets: np.ndarray, job: Job) -> Fitted:
        """Place the points; the sharpness is the one that cross-validates best."""
        features = _features(train, job.config)
        losses = np.zeros(len(SHARPNESSES))
        for held_out in inner_folds(targets, job.seed):
            kept = ~held_out
            if held_out.any() and kept.any():
                head = _placed(features[kept], targets[kept], job)
                truth = targets[held_out]
                for at, sharpness in enumerate(SHARPNESSES):
                    sharpened = replace(head, sharpness=sharpness)
                    proba = sharpened.outputs(features[held_out])
                    losses[at] -= np.log(proba[np.arange(len(truth)), truth]).sum()
        best = SHARPNESSES[int(np.argmin(losses))]
        head = replace(_placed(features, targets, job), sharpness=best)
        return _adapted(train, job.config, head)


def _placed(features: Rows, labels: Labels, job: Job) -> NeighbourHead:
    classes, neighbours = job.task.width, int(job.config.get("neighbours", 0))
    scaling = Scaling.fit(features, job.config.text("scaling"))
    points = scaling.apply(features)
    votes = np.eye(classes)[labels]
    if neighbours == 0:  # class means
        known = np.unique(labels)
        points = np.stack([points[labels == label].mean(axis=0) for label in known])
        votes = np.eye(classes)[known]
    return NeighbourHead(
        scaling=scaling,
        points=unit_rows(points).astype(np.float32),
        votes=votes.astype(np.float32),
        neighbours=min(neighbours, len(points)) if neighbours else len(points),
        sharpness=1.0,
    )
