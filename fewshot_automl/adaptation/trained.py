"""Methods that train by steps: the last blocks, LoRA layers, or everything."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal

import numpy as np
import torch

from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.adaptation.fitted import (
    Adapted,
    changed_features,
    trained_parameters,
)
from fewshot_automl.adaptation.frozen import (
    head_dimension,
    imbalance_dimensions,
    reads_unlabelled,
)
from fewshot_automl.adaptation.kinds import HEADS
from fewshot_automl.adaptation.lora import VARIANTS, attach
from fewshot_automl.adaptation.method import Fitted, Job, Method, Profile
from fewshot_automl.adaptation.trainee import ScaledLinear, Trainee, TrainingRows
from fewshot_automl.backbones.backbone import Backbone
from fewshot_automl.backbones.card import Card, TextInput
from fewshot_automl.errors import TrialError
from fewshot_automl.modalities import modality_named
from fewshot_automl.space import Choice, Config, Dimension, Float, Int
from fewshot_automl.tasks import Task
from fewshot_automl.training import (
    SCHEDULES,
    Loss,
    Placement,
    Sampler,
    TrainingSettings,
    balanced,
    loop,
    shuffled,
    supervised_contrastive,
)

Part = Literal["blocks", "lora", "everything"]

CONVERGED: Final = 0.02
"""Loss above the least possible, for a whole epoch and at least `LEAST_CONVERGED`
steps in a row, at which a training is over."""
LEAST_CONVERGED: Final = 5
VIEWS: Final = 4
"""Views of an image under light augmentation: the plain one and three others."""
BLOCK_PASSES: Final = 3.0
"""Forward passes that a training step of plain blocks is worth: backward is twice."""
LORA_PASSES: Final = 2.3
"""The same under LoRA, where frozen weights need no gradient of their own."""

WIDE: Final = 768
"""Width from which bfloat16 pays on a CPU that has it. Casts eat the gain of
MiniLM's narrower products (decision 0009). Images were not measured."""
BFLOAT16_SHARE: Final = 0.62
"""Of the seconds of a step that are left then: of MPNet's last half 0.57 in batches of
32 and 0.71 in batches of 16, 0.73 under LoRA (trec6, one AMX core, medians)."""

FROZEN: Final = Float(name="frozen_fraction", low=0.0, high=0.9, default=0.5)
LEARNING_RATES: Final[dict[Part, Float]] = {
    "blocks": Float(name="learning_rate", low=1e-5, high=1e-3, log=True, default=2e-4),
    "lora": Float(
        name="lora_learning_rate", low=1e-4, high=1e-2, log=True, default=1e-3
    ),
    "everything": Float(
        name="full_learning_rate", low=5e-6, high=5e-4, log=True, default=5e-5
    ),
}
HEAD_LEARNING_RATE: Final = Float(
    name="head_learning_rate", low=1e-4, high=3e-2, log=True, default=1e-3
)
PROBE_SHARE: Final = Float(name="probe_share", low=0.0, high=1.0, default=0.1)
"""Share of the probe's weights that the head starts with. A finished probe leaves the
encoder nothing to learn: on trec6 at 8 a class, MiniLM-L6, last 3 blocks, 2 draws, the
whole probe ended at 0.50, 0.3 of it at 0.76, 0.1 and none of it at 0.81 (once, by hand,
on 200 test rows)."""
LOOP: Final[tuple[Dimension, ...]] = (
    Choice(name="schedule", options=tuple(SCHEDULES), default="one_cycle"),
    Float(name="warmup_fraction", low=0.0, high=0.3, default=0.1),
    Int(name="steps", low=10, high=160, log=True, default=40),
    Int(name="batch_size", low=8, high=64, log=True, default=32),
    Float(name="weight_decay", low=1e-4, high=0.3, log=True, default=0.01),
)
TEMPERATURE: Final = Float(
    name="temperature", low=0.03, high=0.3, log=True, default=0.1
)
LORA_DIMENSIONS: Final[tuple[Dimension, ...]] = (
    Choice(name="lora_variant", options=VARIANTS, default="lora"),
    Int(name="rank", low=1, high=64, log=True, default=8),
    Float(name="alpha_ratio", low=0.5, high=4.0, log=True, default=2.0),
    Float(name="lora_dropout", low=0.0, high=0.3, default=0.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained(Method):
    """Trains part of a backbone by a loss, and puts a head on what comes out.

    With the loss of the task the head starts as a share of the probe (see
    `PROBE_SHARE`) and is trained along. With the supervised contrastive loss the
    encoder is trained alone and a probe is fitted afterwards.

    Source:
        Kumar et al., ICLR 2022 (start from the probe); Khosla et al., NeurIPS 2020
        (the contrastive loss); Tunstall et al., arXiv:2209.11055 (few-shot texts).
    """

    part: Part
    """What of the backbone is trained."""
    is_contrastive: bool = False
    trains: bool = True

    def dimensions(self, profile: Profile) -> tuple[Dimension, ...]:
        """Return what is trained, by which loss, on which schedule."""
        task = profile.task
        frozen = () if self.part == "everything" else (FROZEN,)
        lora = LORA_DIMENSIONS if self.part == "lora" else ()
        loss: tuple[Dimension, ...] = (
            TEMPERATURE,
            head_dimension(task, profile.unlabelled),
        )
        if not self.is_contrastive:
            loss = (HEAD_LEARNING_RATE, PROBE_SHARE, *HEADS[task.kind].loss_dimensions)
            loss = (*loss, *imbalance_dimensions(profile))
        augmentations = modality_named(task.modality).augmentations
        views: tuple[Dimension, ...] = ()
        if len(augmentations) > 1:
            views = (Choice(name="augmentation", options=augmentations),)
        rate = LEARNING_RATES[self.part]
        return (*frozen, rate, *lora, *LOOP, *loss, *views)

    def first_trained(self, config: Config, depth: int) -> int:
        """Return the first block trained; at least one block is. -1 is everything."""
        if self.part == "everything":
            return -1
        return min(round(config.number("frozen_fraction") * depth), depth - 1)

    def forked(self, base: Backbone, config: Config, seed: int) -> Backbone:
        """Return a fork of a backbone that wants gradients where a Config trains it."""
        start = self.first_trained(config, base.depth)
        if self.part == "lora":
            return attach(base, start, config, seed)
        fork = base.fork(start)
        for parameter in trained_parameters(fork, start):
            parameter.requires_grad_(parameter.is_floating_point())
        return fork

    def objective(
        self, targets: np.ndarray, task: Task, config: Config, seed: int
    ) -> tuple[Loss, Sampler]:
        """Return what a training minimises, and the batches that it draws."""
        # There is one function for each loss and no table: contrastive batches and
        # temperatures are of no use to another loss.
        if self.is_contrastive:
            temperature = config.number("temperature")
            loss: Loss = partial(supervised_contrastive, temperature=temperature)
            return loss, balanced(targets, seed)
        make = HEADS[task.kind].loss
        assert make is not None, "`suits` asked for it"
        return make(targets, task, config), shuffled(len(targets), seed)

    def fit(self, train: Encodings, targets: np.ndarray, job: Job) -> Fitted:
        """Fork the backbone, train the fork, fit or finish its head."""
        base, config, device = train.backbone, job.config, job.placement.device
        start = self.first_trained(config, base.depth)
        fork = self.forked(base, config, job.seed)
        fork.checkpoints = job.checkpoints
        loss, sampler = self.objective(targets, job.task, config, job.seed)
        head: ScaledLinear | None = None
        if not self.is_contrastive:
            probe = job.fit_head(train.pooled(), targets)
            head = ScaledLinear(probe, share=config.number("probe_share"))
        rows = TrainingRows(train, start, views_of(config), job.seed, device)
        trainee = Trainee(fork, start, head)
        job.before_training()
        loop.train(
            trainee,
            rows,
            torch.from_numpy(targets),
            loss,
            sampler,
            self.settings(config, job.seed, len(targets)),
            training_place(job.placement, base.card),
            deadline=job.deadline,
            parts=job.parts,
            blocks=trainee.blocks(),
        )
        if head is None:
            features = changed_features(fork, start, train, device)
            if not np.isfinite(features).all():
                raise TrialError(
                    "Features became NaN or infinite. Use a lower learning rate."
                )
            more = {}
            if job.unlabelled is not None and reads_unlabelled(config):
                more["unlabelled"] = changed_features(
                    fork, start, job.unlabelled, device
                )
            fitted = job.fit_head(features, targets, **more)
        else:
            fitted = head.to_head()
        return Adapted(
            backbone=fork,
            head=fitted,
            start=start,
            base=base if self.part == "lora" else None,
            device=device,
        )

    def settings(self, config: Config, seed: int, examples: int) -> TrainingSettings:
        """Return how a Config trains on so many examples."""
        size = int(config["batch_size"])
        return TrainingSettings(
            steps=int(config["steps"]),
            batch_size=size,
            learning_rate=config.number(LEARNING_RATES[self.part].name),
            head_learning_rate=float(config.get("head_learning_rate", 0.0)) or None,
            weight_decay=config.number("weight_decay"),
            schedule=config.text("schedule"),
            warmup_fraction=config.number("warmup_fraction"),
            converged_loss=CONVERGED,
            converged_steps=max(LEAST_CONVERGED, -(-examples // size)),
            seed=seed,
        )


def views_of(config: Config) -> int:
    """Return how many views of each example a training sees."""
    return VIEWS if config.get("augmentation", "none") == "light" else 1


def training_place(placement: Placement, card: Card) -> Placement:
    """Return how a backbone is trained: on CPUs only wide ones for texts in bfloat16.

    Features, heads and predictions are computed in 32-bit floats everywhere.
    """
    is_wide = isinstance(card.input, TextInput) and card.width >= WIDE
    if placement.device == "cpu" and not is_wide:
        return replace(placement, precision="no")
    return placement


TRAINED: Final = (
    Trained(
        name="contrastive",
        title="Contrastive tuning",
        meaning="retrains part of a pretrained model so that examples of one class "
        "move together",
        kinds=("classes",),
        part="blocks",
        is_contrastive=True,
        passes=BLOCK_PASSES,
    ),
    Trained(
        name="contrastive_lora",
        title="Contrastive LoRA",
        meaning="trains small added weights (LoRA) so that examples of one class move "
        "together",
        kinds=("classes",),
        part="lora",
        is_contrastive=True,
        passes=LORA_PASSES,
    ),
    Trained(
        name="partial_freeze",
        title="Tuning of the last layers",
        meaning="retrains the last layers of a pretrained model",
        part="blocks",
        passes=BLOCK_PASSES,
    ),
    Trained(
        name="lora",
        title="LoRA",
        meaning="retrains a pretrained model through small added weights",
        part="lora",
        passes=LORA_PASSES,
    ),
    Trained(
        name="full",
        title="Full tuning",
        meaning="retrains all of a pretrained model",
        part="everything",
        passes=BLOCK_PASSES,
    ),
)
