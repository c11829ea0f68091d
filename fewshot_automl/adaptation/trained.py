"""Methods that train by steps: the last blocks, LoRA layers, or everything."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor

from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.adaptation.fitted import Adapted
from fewshot_automl.adaptation.heads import HeadSettings, LinearHead, Scaling
from fewshot_automl.adaptation.kinds import HEADS, LOSSES, Numbers, head_numbers
from fewshot_automl.adaptation.lora import VARIANTS, Adapter, LoraSettings, attach
from fewshot_automl.adaptation.method import Fitted, Job, Method, Profile
from fewshot_automl.adaptation.probe import (
    head_dimension,
    imbalance_dimensions,
)
from fewshot_automl.adaptation.rows import TrainingRows
from fewshot_automl.adaptation.trainee import ScaledLinear, Trainee
from fewshot_automl.backbones.backbone import Backbone
from fewshot_automl.errors import TrialError
from fewshot_automl.modalities import Input, modality_named
from fewshot_automl.space import Choice, Config, Dimension
from fewshot_automl.space import Float as FloatDimension
from fewshot_automl.space import Int as IntDimension
from fewshot_automl.tasks import Task
from fewshot_automl.training import (
    SCHEDULES,
    Loss,
    TrainingSettings,
    balanced,
    loop,
    shuffled,
    supervised_contrastive,
)

Part = Literal["blocks", "lora", "everything"]
LossKind = Literal["of the task", "contrastive"]

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

FROZEN: Final = FloatDimension(name="frozen_fraction", low=0.0, high=0.9, default=0.5)
LEARNING_RATES: Final[dict[Part, FloatDimension]] = {
    "blocks": FloatDimension(
        name="learning_rate", low=1e-5, high=1e-3, log=True, default=2e-4
    ),
    "lora": FloatDimension(
        name="lora_learning_rate", low=1e-4, high=1e-2, log=True, default=1e-3
    ),
    "everything": FloatDimension(
        name="full_learning_rate", low=5e-6, high=5e-4, log=True, default=5e-5
    ),
}
HEAD_LEARNING_RATE: Final = FloatDimension(
    name="head_learning_rate", low=1e-4, high=3e-2, log=True, default=1e-3
)
PROBE_SHARE: Final = FloatDimension(name="probe_share", low=0.0, high=1.0, default=0.1)
"""Share of the probe's weights that the head starts with. A finished probe leaves the
encoder nothing to learn: on trec6 at 8 a class, MiniLM-L6, last 3 blocks, 2 draws, the
whole probe ended at 0.50, 0.3 of it at 0.76, 0.1 and none of it at 0.81 (once, by hand,
on 200 test rows)."""
LOOP: Final[tuple[Dimension, ...]] = (
    Choice(name="schedule", options=tuple(SCHEDULES), default="one_cycle"),
    FloatDimension(name="warmup_fraction", low=0.0, high=0.3, default=0.1),
    IntDimension(name="steps", low=10, high=160, log=True, default=40),
    IntDimension(name="batch_size", low=8, high=64, log=True, default=32),
    FloatDimension(name="weight_decay", low=1e-4, high=0.3, log=True, default=0.01),
)
TEMPERATURE: Final = FloatDimension(
    name="temperature", low=0.03, high=0.3, log=True, default=0.1
)
LORA_DIMENSIONS: Final[tuple[Dimension, ...]] = (
    Choice(name="lora_variant", options=VARIANTS, default="lora"),
    IntDimension(name="rank", low=1, high=64, log=True, default=8),
    FloatDimension(name="alpha_ratio", low=0.5, high=4.0, log=True, default=2.0),
    FloatDimension(name="lora_dropout", low=0.0, high=0.3, default=0.0),
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
    loss: LossKind
    trains: bool = True

    def dimensions(self, profile: Profile) -> tuple[Dimension, ...]:
        """Return what is trained, by which loss, on which schedule."""
        task = profile.task
        frozen = () if self.part == "everything" else (FROZEN,)
        lora = LORA_DIMENSIONS if self.part == "lora" else ()
        loss: tuple[Dimension, ...] = (TEMPERATURE, head_dimension(task))
        if self.loss == "of the task":
            loss = (
                *(HEAD_LEARNING_RATE, PROBE_SHARE, *LOSSES[task.kind].dimensions),
                *imbalance_dimensions(profile),
            )
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

    def numbers(
        self, config: Config, width: int, task: Task, inputs: Sequence[Input]
    ) -> Numbers:
        """Return the size of the head."""
        return head_numbers(config, width, task, len(inputs))

    def fit(self, train: Encodings, targets: np.ndarray, job: Job) -> Fitted:
        """Fork the backbone, train the fork, fit or finish its head."""
        base, config, device = train.backbone, job.config, job.placement.device
        start = self.first_trained(config, base.depth)
        fork, adapter = self._fork(base, start, job)
        is_contrastive = self.loss == "contrastive"
        trainee = Trainee(
            fork,
            start,
            None if is_contrastive else _torch_head(train, targets, job),
            saves_padding=device == "cpu",
        )
        # There is one function for each loss and no table: contrastive batches and
        # temperatures are of no use to another loss.
        if is_contrastive:
            loss, sampler = _contrastive(config), balanced(targets, job.seed)
        else:
            loss = LOSSES[job.task.kind].make(targets, job.task, config)
            sampler = shuffled(len(targets), job.seed)
        loop.train(
            trainee,
            _rows(train, start, job),
            torch.from_numpy(targets),
            loss,
            sampler,
            self._settings(job, len(targets)),
            job.placement,
            deadline=job.deadline,
        )
        adapted = Adapted(
            backbone=fork,
            head=_NO_HEAD if trainee.head is None else trainee.head.to_head(),
            start=start,
            adapter=adapter,
            device=device,
        )
        if not is_contrastive:
            return adapted
        features = adapted.features(train)
        if not np.isfinite(features).all():
            raise TrialError(
                "Features became NaN or infinite. Use a lower learning rate."
            )
        settings = HeadSettings(head=config.text("head"), seed=job.seed)
        head = HEADS[job.task.kind].fit(features, targets, job.task, settings)
        return replace(adapted, head=head)

    def _fork(
        self, base: Backbone, start: int, job: Job
    ) -> tuple[Backbone, Adapter | None]:
        # LoRA changes no weight of the backbone, so a fork for it owns none.
        fork = base.fork(base.depth if self.part == "lora" else start)
        if self.part != "lora":
            trained = (
                fork.module.parameters() if start < 0 else fork.tail_parameters(start)
            )
            for parameter in trained:
                parameter.requires_grad_(parameter.is_floating_point())
            return fork, None
        rank = int(job.config["rank"])
        settings = LoraSettings(
            rank=rank,
            alpha=rank * job.config.number("alpha_ratio"),
            dropout=job.config.number("lora_dropout"),
            variant=str(job.config.get("lora_variant", VARIANTS[0])),
        )
        return fork, attach(fork, base, start, settings, job.seed)

    def _settings(self, job: Job, examples: int) -> TrainingSettings:
        config, size = job.config, int(job.config["batch_size"])
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
            seed=job.seed,
        )


def views_of(config: Config) -> int:
    """Return how many views of each example a training sees."""
    return VIEWS if config.get("augmentation", "none") == "light" else 1


def _rows(train: Encodings, start: int, job: Job) -> TrainingRows:
    """Return the rows of all examples, in as many views as are asked for."""
    views = views_of(job.config)
    rows = [
        row
        for view in range(views)
        for row in (train.rows(view) if start < 0 else train.activations(start, view))
    ]
    return TrainingRows(
        rows=rows,
        views=views,
        seed=job.seed,
        backbone=train.backbone,
        device=job.placement.device,
    )


def _torch_head(train: Encodings, targets: np.ndarray, job: Job) -> ScaledLinear:
    row = HEADS[job.task.kind]
    settings = HeadSettings(
        head=row.heads[0],
        weighting=str(job.config.get("class_weights", "none")),
        seed=job.seed,
    )
    head = row.fit(train.pooled(), targets, job.task, settings)
    assert isinstance(head, LinearHead)
    share = job.config.number("probe_share")
    return ScaledLinear(
        replace(head, weight=share * head.weight, bias=share * head.bias)
    )


def _contrastive(config: Config) -> Loss:
    temperature = config.number("temperature")

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return supervised_contrastive(outputs, targets, temperature)

    return loss


_NO_HEAD: Final = LinearHead(
    scaling=Scaling(
        unit=False, center=np.zeros(1, np.float32), scale=np.ones(1, np.float32)
    ),
    weight=np.zeros((1, 1), np.float32),
    bias=np.zeros(1, np.float32),
)

CONTRASTIVE: Final = Trained(
    name="contrastive",
    title="Contrastive tuning",
    meaning="retrains part of a pretrained model so that examples of one class move "
    "together",
    kinds=("classes",),
    part="blocks",
    loss="contrastive",
    passes=BLOCK_PASSES,
)
CONTRASTIVE_LORA: Final = Trained(
    name="contrastive_lora",
    title="Contrastive LoRA",
    meaning="trains small added weights (LoRA) so that examples of one class move "
    "together",
    kinds=("classes",),
    part="lora",
    loss="contrastive",
    passes=LORA_PASSES,
)
PARTIAL_FREEZE: Final = Trained(
    name="partial_freeze",
    title="Tuning of the last layers",
    meaning="retrains the last layers of a pretrained model",
    part="blocks",
    loss="of the task",
    passes=BLOCK_PASSES,
)
LORA: Final = Trained(
    name="lora",
    title="LoRA",
    meaning="retrains a pretrained model through small added weights",
    part="lora",
    loss="of the task",
    passes=LORA_PASSES,
)
FULL: Final = Trained(
    name="full",
    title="Full tuning",
    meaning="retrains all of a pretrained model",
    part="everything",
    loss="of the task",
    passes=BLOCK_PASSES,
)
