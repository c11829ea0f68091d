"""Methods that train by steps: the last blocks, LoRA layers, or everything."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.adaptation.fitted import Adapted
from fewshot_automl.adaptation.heads import LinearHead, Scaling
from fewshot_automl.adaptation.lora import Adapter, LoraSettings, attach, lora_seed
from fewshot_automl.adaptation.method import Fitted, Job, Profile, class_weights
from fewshot_automl.adaptation.probe import HEAD, fit_head, imbalance_dimensions
from fewshot_automl.backbones.backbone import Backbone, Tensors
from fewshot_automl.errors import TrialError
from fewshot_automl.space import Choice, Dimension
from fewshot_automl.space import Float as FloatDimension
from fewshot_automl.space import Int as IntDimension
from fewshot_automl.task import MODALITIES, Modality
from fewshot_automl.training.batches import balanced, shuffled
from fewshot_automl.training.loop import TrainingSettings, train
from fewshot_automl.training.losses import cross_entropy, supervised_contrastive
from fewshot_automl.training.schedules import SCHEDULES

Part = Literal["blocks", "lora", "everything"]
Loss = Literal["cross_entropy", "contrastive"]

VIEWS: Final = 4
"""Views of an image under light augmentation: the plain one and three others."""

FROZEN: Final = FloatDimension(name="frozen_fraction", low=0.0, high=0.9, default=0.5)
LEARNING_RATE: Final = FloatDimension(
    name="learning_rate", low=1e-5, high=1e-3, log=True, default=2e-4
)
LORA_LEARNING_RATE: Final = FloatDimension(
    name="lora_learning_rate", low=1e-4, high=1e-2, log=True, default=1e-3
)
FULL_LEARNING_RATE: Final = FloatDimension(
    name="full_learning_rate", low=5e-6, high=5e-4, log=True, default=5e-5
)
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
LABEL_SMOOTHING: Final = FloatDimension(
    name="label_smoothing", low=0.0, high=0.2, default=0.05
)
TEMPERATURE: Final = FloatDimension(
    name="temperature", low=0.03, high=0.3, log=True, default=0.1
)
AUGMENTATION: Final = Choice(
    name="augmentation", options=("none", "light"), default="none"
)
LORA: Final[tuple[Dimension, ...]] = (
    IntDimension(name="rank", low=1, high=64, log=True, default=8),
    FloatDimension(name="alpha_ratio", low=0.5, high=4.0, log=True, default=2.0),
    FloatDimension(name="lora_dropout", low=0.0, high=0.3, default=0.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """Trains part of a backbone by a loss, and puts a head on what comes out.

    With cross-entropy the head starts as a share of the probe (see `PROBE_SHARE`) and
    is trained along. With the supervised contrastive loss the encoder is trained alone
    and a probe is fitted afterwards.

    Source:
        Kumar et al., ICLR 2022 (start from the probe); Khosla et al., NeurIPS 2020
        (the contrastive loss); Tunstall et al., arXiv:2209.11055 (few-shot texts).
    """

    name: str
    part: Part
    loss: Loss
    needs_backbone: bool = True
    is_dear: bool = True
    modalities: tuple[Modality, ...] = field(default=MODALITIES)

    def dimensions(self, profile: Profile) -> tuple[Dimension, ...]:
        """Return what is trained, by which loss, on which schedule."""
        part: dict[Part, tuple[Dimension, ...]] = {
            "blocks": (FROZEN, LEARNING_RATE),
            "lora": (FROZEN, LORA_LEARNING_RATE, *LORA),
            "everything": (FULL_LEARNING_RATE,),
        }
        loss: dict[Loss, tuple[Dimension, ...]] = {
            "cross_entropy": (
                HEAD_LEARNING_RATE,
                PROBE_SHARE,
                LABEL_SMOOTHING,
                *imbalance_dimensions(profile),
            ),
            "contrastive": (TEMPERATURE, HEAD),
        }
        images = (AUGMENTATION,) if profile.task.modality == "image" else ()
        return (*part[self.part], *LOOP, *loss[self.loss], *images)

    def fit(
        self, train: Encodings, labels: Int[np.ndarray, " examples"], job: Job
    ) -> Fitted:
        """Fork the backbone, train the fork, fit or finish its head."""
        base = train.backbone
        start = self._start(base, job)
        fork, adapter = self._fork(base, start, job)
        head = _torch_head(train, labels, job) if self.loss == "cross_entropy" else None
        trainee = Trainee(fork, start, head)
        trainee.to(job.placement.device)
        _train(trainee, _rows(train, start, job), labels, job, self._loss(labels, job))
        adapted = Adapted(
            backbone=fork,
            head=_IDENTITY if head is None else head.to_head(),
            start=start,
            adapter=adapter,
            device=job.placement.device,
        )
        if head is not None:
            return adapted
        return Adapted(
            backbone=fork,
            head=fit_head(
                _finite(adapted.features(train)),
                labels,
                job.task.classes,
                kind=job.config.text("head"),
                scaling="unit",
                weighting="none",
                seed=job.seed,
            ),
            start=start,
            adapter=adapter,
            device=job.placement.device,
        )

    def _start(self, base: Backbone, job: Job) -> int:
        """Return the first block trained; at least one block is."""
        if self.part == "everything":
            return -1
        cut = round(job.config.number("frozen_fraction") * base.depth)
        return min(cut, base.depth - 1)

    def _fork(
        self, base: Backbone, start: int, job: Job
    ) -> tuple[Backbone, Adapter | None]:
        fork = base.fork(start)
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
        )
        adapter = attach(fork, base, start, settings)
        lora_seed(fork.module, job.seed)
        return fork, adapter

    def _loss(self, labels: Int[np.ndarray, " examples"], job: Job) -> "LossFunction":
        if self.loss == "contrastive":
            return ContrastiveLoss(job.config.number("temperature"))
        rule = str(job.config.get("class_weights", "none"))
        weights = class_weights(labels, job.task.classes, rule)
        return ClassLoss(
            torch.tensor(weights, dtype=torch.float32, device=job.placement.device),
            job.config.number("label_smoothing"),
        )


@dataclass(frozen=True, slots=True)
class ContrastiveLoss:
    """Supervised contrastive loss at a temperature."""

    temperature: float
    is_balanced: bool = True

    def __call__(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of a batch."""
        return supervised_contrastive(embeddings, labels, self.temperature)


@dataclass(frozen=True, slots=True)
class ClassLoss:
    """Cross-entropy with class weights and label smoothing."""

    weights: Tensor
    smoothing: float
    is_balanced: bool = False

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of a batch."""
        return cross_entropy(
            logits, labels, class_weights=self.weights, label_smoothing=self.smoothing
        )


LossFunction = ContrastiveLoss | ClassLoss


class ScaledLinear(nn.Module):
    """A linear head in torch, acting on scaled features as `LinearHead` does."""

    def __init__(self, head: LinearHead) -> None:
        super().__init__()
        self.unit = head.scaling.unit
        self.register_buffer("center", torch.from_numpy(head.scaling.center.copy()))
        self.register_buffer("scale", torch.from_numpy(head.scaling.scale.copy()))
        self.weight = nn.Parameter(torch.from_numpy(head.weight.copy()))
        self.bias = nn.Parameter(torch.from_numpy(head.bias.copy()))

    def forward(self, features: Float[Tensor, "batch width"]) -> Tensor:
        """Return logits."""
        if self.unit:
            features = nn.functional.normalize(features, dim=-1)
        scaled = (features - self.get_buffer("center")) / self.get_buffer("scale")
        return scaled @ self.weight + self.bias

    def to_head(self) -> LinearHead:
        """Return the head in numpy."""

        def array(value: Tensor) -> np.ndarray:
            copied: np.ndarray = value.detach().float().cpu().numpy().copy()
            return copied

        scaling = Scaling(
            unit=self.unit,
            center=array(self.get_buffer("center")),
            scale=array(self.get_buffer("scale")),
        )
        return LinearHead(
            scaling=scaling, weight=array(self.weight), bias=array(self.bias)
        )


class Trainee(nn.Module):
    """What the training loop sees: batches in, logits or embeddings out."""

    def __init__(self, fork: Backbone, start: int, head: ScaledLinear | None) -> None:
        super().__init__()
        self.encoder = fork.module
        self.head = head
        self._fork = fork
        self._start = start

    def forward(self, batch: Tensors) -> Tensor:
        """Return logits, or embeddings where there is no head."""
        features = (
            self._fork.features(batch)
            if self._start < 0
            else self._fork.tail(batch, self._start)
        )
        return features if self.head is None else self.head(features)


@dataclass(frozen=True, slots=True)
class ViewedRows:
    """Training rows in one or several views, a random one for each example drawn."""

    views: tuple[list[Tensors], ...]
    backbone: Backbone
    seed: int

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.views[0])

    def batch(self, indices: Int[np.ndarray, " batch"], step: int) -> Tensors:
        """Return the collated rows; the views drawn depend on seed and step only."""
        rng = np.random.default_rng((self.seed, step))
        drawn = rng.integers(len(self.views), size=len(indices))
        return self.backbone.collate(
            [self.views[v][i] for v, i in zip(drawn, indices, strict=True)]
        )


def _rows(train: Encodings, start: int, job: Job) -> ViewedRows:
    light = job.config.get("augmentation", "none") == "light"
    views = range(VIEWS if light else 1)
    return ViewedRows(
        tuple(
            train.rows(view) if start < 0 else train.activations(start, view)
            for view in views
        ),
        train.backbone,
        job.seed,
    )


def _train(
    trainee: Trainee,
    rows: ViewedRows,
    labels: Int[np.ndarray, " examples"],
    job: Job,
    loss: LossFunction,
) -> None:
    config = job.config
    rate = next(name for name in _RATES if name in config)
    batch_size = int(config["batch_size"])
    settings = TrainingSettings(
        steps=int(config["steps"]),
        batch_size=batch_size,
        learning_rate=config.number(rate),
        head_learning_rate=float(config.get("head_learning_rate", 0.0)) or None,
        weight_decay=config.number("weight_decay"),
        schedule=config.text("schedule"),
        warmup_fraction=config.number("warmup_fraction"),
        seed=job.seed,
    )
    sampler: Iterator[np.ndarray] = (
        balanced(labels, batch_size, job.seed)
        if loss.is_balanced
        else shuffled(len(labels), batch_size, job.seed)
    )
    train(
        trainee,
        rows,
        torch.from_numpy(labels),
        loss,
        sampler,
        settings,
        job.placement,
        deadline=job.deadline,
    )


def _torch_head(
    train: Encodings, labels: Int[np.ndarray, " examples"], job: Job
) -> ScaledLinear:
    head = fit_head(
        train.pooled(),
        labels,
        job.task.classes,
        kind="logistic",
        scaling="unit",
        weighting=str(job.config.get("class_weights", "none")),
        seed=job.seed,
    )
    assert isinstance(head, LinearHead)
    share = job.config.number("probe_share")
    return ScaledLinear(
        replace(head, weight=share * head.weight, bias=share * head.bias)
    )


def _finite(
    features: Float[np.ndarray, "examples width"],
) -> Float[np.ndarray, "examples width"]:
    if not np.isfinite(features).all():
        raise TrialError("Features became NaN or infinite. Use a lower learning rate.")
    return features


_RATES: Final = ("learning_rate", "lora_learning_rate", "full_learning_rate")
_IDENTITY: Final = LinearHead(
    scaling=Scaling(
        unit=False, center=np.zeros(1, np.float32), scale=np.ones(1, np.float32)
    ),
    weight=np.zeros((1, 1), np.float32),
    bias=np.zeros(1, np.float32),
)
