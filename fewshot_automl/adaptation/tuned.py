"""Methods that train by steps: the last blocks, LoRA layers, or everything."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.adaptation.fitted import Adapted
from fewshot_automl.adaptation.heads import LinearHead, Scaling
from fewshot_automl.adaptation.lora import Adapter, LoraSettings, attach, lora_seed
from fewshot_automl.adaptation.method import Fitted, Job, Profile, class_weights
from fewshot_automl.adaptation.probe import HEAD, fit_head, imbalance_dimensions
from fewshot_automl.adaptation.rows import CohortRows, RowTable, ViewedRows
from fewshot_automl.adaptation.trainee import ScaledLinear, Trainee
from fewshot_automl.backbones.backbone import Backbone
from fewshot_automl.errors import OutOfTime, TrialError
from fewshot_automl.modalities import MODALITIES
from fewshot_automl.space import Choice, Config, Dimension
from fewshot_automl.space import Float as FloatDimension
from fewshot_automl.space import Int as IntDimension
from fewshot_automl.training import loop
from fewshot_automl.training.batches import balanced, shuffled
from fewshot_automl.training.cohort import Member, train_together
from fewshot_automl.training.gradients import Loss, saved_bytes
from fewshot_automl.training.losses import cross_entropies, supervised_contrastives
from fewshot_automl.training.placement import empty_cache, is_out_of_memory
from fewshot_automl.training.schedules import SCHEDULES
from fewshot_automl.training.settings import TrainingSettings

Part = Literal["blocks", "lora", "everything"]
LossKind = Literal["cross_entropy", "contrastive"]

CONVERGED: Final = 0.02
"""Loss above the least possible, for a whole epoch and at least `LEAST_CONVERGED`
steps in a row, at which a training is over."""
LEAST_CONVERGED: Final = 5
COPIES: Final = 7
"""Of a weight in a cohort: itself, gradient, two moments, two in the making of an
update, and the one it ends in."""
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
    loss: LossKind
    needs_backbone: bool = True
    is_dear: bool = True
    modalities: tuple[str, ...] = field(default=tuple(MODALITIES))

    def dimensions(self, profile: Profile) -> tuple[Dimension, ...]:
        """Return what is trained, by which loss, on which schedule."""
        part: dict[Part, tuple[Dimension, ...]] = {
            "blocks": (FROZEN, LEARNING_RATE),
            "lora": (FROZEN, LORA_LEARNING_RATE, *LORA),
            "everything": (FULL_LEARNING_RATE,),
        }
        loss: dict[LossKind, tuple[Dimension, ...]] = {
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
        everything = np.arange(len(labels))
        table = self._table(train, job, [job])
        run = self._run(train, labels, everything, job, table)
        loop.train(
            run.trainee,
            run.rows,
            torch.from_numpy(labels),
            self._loss(labels, job),
            run.sampler,
            run.settings,
            job.placement,
            deadline=job.deadline,
        )
        return self._finished(run, train, labels)

    def is_alike(self, backbone: Backbone, one: Config, other: Config) -> bool:
        """Return whether two of its Configs can be trained in one cohort."""
        start = _start_of(self.part, one, backbone.depth)
        is_same = start == _start_of(self.part, other, backbone.depth)
        return is_same and backbone.stacks(start)

    def slot_bytes(
        self, train: Encodings, labels: Int[np.ndarray, " examples"], job: Job
    ) -> int:
        """Return how much memory one fit more in a cohort takes.

        `COPIES` of what is trained, and what a forward pass keeps for the backward
        one, measured on a batch.
        """
        table = self._table(train, job, [job])
        run = self._run(train, labels, np.arange(len(labels)), job, table)
        run.trainee.become_skeleton()
        size = int(job.config["batch_size"])
        batch = run.rows.batch(np.resize(np.arange(len(labels)), size), 0)
        weights = [p for p in run.trainee.parameters() if p.requires_grad]
        kept = saved_bytes(run.trainee, batch)
        return kept + COPIES * sum(p.numel() * p.element_size() for p in weights)

    def fit_together(
        self,
        encodings: Encodings,
        labels: Int[np.ndarray, " examples"],
        chosen: Sequence[np.ndarray],
        jobs: Sequence[Job],
    ) -> list[Fitted | TrialError]:
        """Fit several times side by side on one device, each as `fit` would alone.

        Args:
            encodings: All examples.
            labels: Their class indices.
            chosen: Of each fit, the places of its examples.
            jobs: Of each fit; their Configs are alike, see `is_alike`.

        Returns:
            For each fit its model, or the error that ended it.

        Raises:
            OutOfTime: If the deadline of the first job passes.
        """
        table = self._table(encodings, jobs[0], jobs)
        return self._halved(encodings, labels, chosen, jobs, table)

    def _halved(
        self,
        encodings: Encodings,
        labels: Int[np.ndarray, " examples"],
        chosen: Sequence[np.ndarray],
        jobs: Sequence[Job],
        table: RowTable,
    ) -> list[Fitted | TrialError]:
        """Fit together; in two halves where memory runs out, at last one by one."""
        if len(jobs) == 1:
            train, own = encodings.take(chosen[0]), labels[chosen[0]]
            try:
                return [self.fit(train, own, jobs[0])]
            except OutOfTime:
                raise
            except TrialError as error:
                return [error]
        try:
            return self._together(encodings, labels, chosen, jobs, table)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        empty_cache(jobs[0].placement.device)
        half = len(jobs) // 2
        return [
            fitted
            for part in (slice(None, half), slice(half, None))
            for fitted in self._halved(
                encodings, labels, chosen[part], jobs[part], table
            )
        ]

    def _together(
        self,
        encodings: Encodings,
        labels: Int[np.ndarray, " examples"],
        chosen: Sequence[np.ndarray],
        jobs: Sequence[Job],
        table: RowTable,
    ) -> list[Fitted | TrialError]:
        trains = [encodings.take(places) for places in chosen]
        own = [labels[places] for places in chosen]
        runs = [
            self._run(*given, table)
            for given in zip(trains, own, chosen, jobs, strict=True)
        ]
        spare = self._run(trains[0], own[0], chosen[0], jobs[0], table).trainee
        logs = train_together(
            [
                Member(
                    module=run.trainee,
                    labels=mine,
                    sampler=run.sampler,
                    settings=run.settings,
                )
                for run, mine in zip(runs, own, strict=True)
            ],
            spare.become_skeleton(),
            CohortRows([run.rows for run in runs]),
            self._losses(own, jobs),
            jobs[0].placement,
            deadline=jobs[0].deadline,
        )
        made: list[Fitted | TrialError] = []
        for log, run, train, mine in zip(logs, runs, trains, own, strict=True):
            try:
                if isinstance(log, TrialError):
                    raise log
                made.append(self._finished(run, train, mine))
            except OutOfTime:
                raise
            except TrialError as error:
                made.append(error)
        return made

    def _run(
        self,
        train: Encodings,
        labels: Int[np.ndarray, " examples"],
        chosen: Int[np.ndarray, " examples"],
        job: Job,
        table: RowTable,
    ) -> "_Run":
        """Return everything that a fit's training needs."""
        base = train.backbone
        start = _start_of(self.part, job.config, base.depth)
        fork, adapter = self._fork(base, start, job)
        head = _torch_head(train, labels, job) if self.loss == "cross_entropy" else None
        is_cpu = job.placement.device == "cpu"
        trainee = Trainee(fork, start, head, saves_padding=is_cpu)
        trainee.to(job.placement.device)
        settings = _settings(job, len(labels))
        size = settings.batch_size
        return _Run(
            job=job,
            start=start,
            trainee=trainee,
            fork=fork,
            adapter=adapter,
            rows=ViewedRows(
                table=table, chosen=chosen, views=_views(job.config), seed=job.seed
            ),
            sampler=balanced(labels, size, job.seed)
            if self.loss == "contrastive"
            else shuffled(len(labels), size, job.seed),
            settings=settings,
        )

    def _table(self, encodings: Encodings, job: Job, jobs: Sequence[Job]) -> RowTable:
        """Return the rows of all examples, in as many views as any fit asks for."""
        start = _start_of(self.part, job.config, encodings.backbone.depth)
        views = max(_views(each.config) for each in jobs)
        rows = [
            row
            for view in range(views)
            for row in (
                encodings.rows(view)
                if start < 0
                else encodings.activations(start, view)
            )
        ]
        return RowTable(
            rows=rows,
            examples=len(encodings),
            backbone=encodings.backbone,
            device=job.placement.device,
        )

    def _finished(
        self, run: "_Run", train: Encodings, labels: Int[np.ndarray, " examples"]
    ) -> Adapted:
        """Return the model of a training that is over."""
        job, head = run.job, run.trainee.head
        adapted = Adapted(
            backbone=run.fork,
            head=_IDENTITY if head is None else head.to_head(),
            start=run.start,
            adapter=run.adapter,
            device=job.placement.device,
        )
        if head is not None:
            return adapted
        return replace(
            adapted,
            head=fit_head(
                _finite(adapted.features(train)),
                labels,
                job.task.classes,
                kind=job.config.text("head"),
                scaling="unit",
                weighting="none",
                seed=job.seed,
            ),
        )

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
        )
        adapter = attach(fork, base, start, settings)
        lora_seed(fork.module, job.seed)
        return fork, adapter

    def _loss(self, labels: Int[np.ndarray, " examples"], job: Job) -> Loss:
        losses = self._losses([labels], [job])

        def loss(outputs: Tensor, labels: Tensor) -> Tensor:
            real = torch.ones_like(labels, dtype=torch.bool)
            member = torch.zeros(1, dtype=torch.int64)
            return losses(outputs[None], labels[None], real[None], member)[0]

        return loss

    def _losses(
        self, labels: Sequence[np.ndarray], jobs: Sequence[Job]
    ) -> "ContrastiveLosses | ClassLosses":
        device = jobs[0].placement.device
        if self.loss == "contrastive":
            values = [job.config.number("temperature") for job in jobs]
            return ContrastiveLosses(torch.tensor(values, device=device))
        weights = [
            class_weights(
                own, job.task.classes, str(job.config.get("class_weights", "none"))
            )
            for own, job in zip(labels, jobs, strict=True)
        ]
        smoothing = [job.config.number("label_smoothing") for job in jobs]
        return ClassLosses(
            torch.tensor(np.stack(weights), dtype=torch.float32, device=device),
            torch.tensor(smoothing, device=device),
        )


@dataclass(frozen=True, slots=True)
class ContrastiveLosses:
    """Supervised contrastive loss of each slot, at the temperature of each."""

    temperatures: Float[Tensor, " members"]

    def __call__(
        self,
        outputs: Float[Tensor, "slots rows width"],
        labels: Int[Tensor, "slots rows"],
        real: Bool[Tensor, "slots rows"],
        members: Int[Tensor, " slots"],
    ) -> Float[Tensor, " slots"]:
        """Return each slot's mean loss."""
        return supervised_contrastives(
            outputs, labels, real, self.temperatures[members]
        )


@dataclass(frozen=True, slots=True)
class ClassLosses:
    """Cross-entropy of each slot, with the class weights and smoothing of each."""

    weights: Float[Tensor, "members classes"]
    smoothing: Float[Tensor, " members"]

    def __call__(
        self,
        outputs: Float[Tensor, "slots rows classes"],
        labels: Int[Tensor, "slots rows"],
        real: Bool[Tensor, "slots rows"],
        members: Int[Tensor, " slots"],
    ) -> Float[Tensor, " slots"]:
        """Return each slot's mean loss."""
        return cross_entropies(
            outputs,
            labels,
            real,
            label_smoothing=self.smoothing[members],
            class_weights=self.weights[members],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One training, ready to start."""

    job: Job
    start: int
    """First block trained, -1 for everything."""
    trainee: Trainee
    fork: Backbone
    adapter: Adapter | None
    rows: ViewedRows
    sampler: Iterator[np.ndarray]
    settings: TrainingSettings


def _start_of(part: Part, config: Config, depth: int) -> int:
    """Return the first block trained; at least one block is. -1 is everything."""
    if part == "everything":
        return -1
    return min(round(config.number("frozen_fraction") * depth), depth - 1)


def _views(config: Config) -> int:
    return VIEWS if config.get("augmentation", "none") == "light" else 1


def _settings(job: Job, examples: int) -> TrainingSettings:
    config, size = job.config, int(job.config["batch_size"])
    rate = next(name for name in _RATES if name in config)
    return TrainingSettings(
        steps=int(config["steps"]),
        batch_size=size,
        learning_rate=config.number(rate),
        head_learning_rate=float(config.get("head_learning_rate", 0.0)) or None,
        weight_decay=config.number("weight_decay"),
        schedule=config.text("schedule"),
        warmup_fraction=config.number("warmup_fraction"),
        converged_loss=CONVERGED,
        converged_steps=max(LEAST_CONVERGED, -(-examples // size)),
        seed=job.seed,
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
