"""What a trial will need: memory, counted on tensors that have none, and time."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Final

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from fewshot_automl.adaptation.fitted import BATCH
from fewshot_automl.adaptation.heads import LinearHead, Scaling
from fewshot_automl.adaptation.table import method
from fewshot_automl.adaptation.trained import Trained, training_place, views_of
from fewshot_automl.adaptation.trainee import ScaledLinear, Trainee
from fewshot_automl.backbones import weights
from fewshot_automl.backbones.backbone import MASK, Backbone, Tensors
from fewshot_automl.backbones.card import Card, ImageInput
from fewshot_automl.backbones.readers import reader_of
from fewshot_automl.hardware import Forecast
from fewshot_automl.modalities import Input
from fewshot_automl.outcome import History
from fewshot_automl.space import Config
from fewshot_automl.training.memory import (
    BASE_BYTES,
    HEAP_FACTOR,
    StorageCount,
    allocated_bytes,
    room_bytes,
    two_steps,
)
from fewshot_automl.trial.context import TrialContext
from fewshot_automl.trial.measures import build_bare

PEAK: Final = "peak_memory_mb"
"""Measure of a trial: millions of bytes that its process held at most."""
ENCODED: Final = 32
"""Examples that an `Encoder` runs at once."""
WAYS: Final = ((1, False), (2, False), (4, False), (4, True))
"""Parts of a batch, and whether blocks are run again: from the fastest way on."""
BYTES_A_FLOP: Final = 0.2
"""No image network keeps more for each operation; depthwise ones keep 0.13."""
LATEST: Final = 3
"""Trials by whose measured peaks forecasts are corrected."""


def forecast(
    context: TrialContext,
    config: Config,
    *,
    seconds: float = 0.0,
    ratio: float = 1.0,
    parts: int = 1,
    checkpoints: bool = False,
) -> Forecast:
    """Return what a trial needs on the context's device.

    The trial's own code runs on fake tensors: encoding, two steps of the training and
    predicting. That takes up to a CPU second, once for all Configs of like shapes.

    Args:
        context: The problem, and where trainings run.
        config: What is tried.
        seconds: What the cost model says that the training takes.
        ratio: How much more memory trials took than was forecast, see `missed_by`.
        parts: Pieces in which a batch is run.
        checkpoints: Whether blocks run again for gradients.

    Raises:
        TrialError: If the Config cannot be trained whatever the memory.
    """
    shape = _shape(context, config, parts, checkpoints)
    if shape not in context.forecasts:
        context.forecasts[shape] = _counted(context, config, parts, checkpoints)
    plain = context.forecasts[shape]
    memory = round(ratio * plain.memory_bytes)
    return replace(plain, memory_bytes=memory, seconds=seconds)


def _shape(
    context: TrialContext, config: Config, parts: int, checkpoints: bool
) -> tuple[object, ...]:
    """Return all of a Config that decides its memory."""
    names = ("method", "backbone", "batch_size", "rank", "lora_variant", "augmentation")
    first = 0
    if "backbone" in config:
        card = context.card(config.text("backbone"))
        first = method(config.text("method")).first_trained(config, card.depth)
    drops = float(config.get("lora_dropout", 0.0)) > 0
    told = (config.get(name, "") for name in names)
    return (*told, first, drops, parts, checkpoints)


def missed_by(context: TrialContext, history: History) -> float:
    """Return the median ratio of measured to forecast peaks in the latest trials."""
    measured = [
        (config, outcome.measures[PEAK])
        for config, outcome in history
        if PEAK in outcome.measures and context.is_at_hand(config)
    ]
    ratios = [
        1e6 * peak / forecast(context, config).memory_bytes
        for config, peak in measured[-LATEST:]
    ]
    return median(ratios) if ratios else 1.0


def thrift(context: TrialContext, config: Config) -> tuple[int, bool]:
    """Return in how many parts batches must run to fit, and whether with checkpoints.

    Nothing is counted where memory is plenty.
    """
    room = room_bytes(context.placement.device)
    if room is None or not context.problem.trains(config):
        return WAYS[0]
    card = context.card(config.text("backbone"))
    each = 8 / card.width if card.modality == "text" else BYTES_A_FLOP
    activations = int(config["batch_size"]) * card.flops * each
    if BASE_BYTES + HEAP_FACTOR * (activations + 24 * card.parameters) < room:
        return WAYS[0]
    ratio = median(context.missed[-LATEST:] or [1.0])
    for parts, checkpoints in WAYS:
        needs = forecast(
            context, config, ratio=ratio, parts=parts, checkpoints=checkpoints
        )
        if needs.memory_bytes <= room:
            break
    return parts, checkpoints


def remembered(
    context: TrialContext, config: Config, peak: float | None
) -> dict[str, float]:
    """Return the measure of a trial's peak, and learn from it for later forecasts."""
    if peak is None:
        return {}
    shape = _shape(context, config, 1, False)
    if shape in context.forecasts:
        context.missed.append(peak / context.forecasts[shape].memory_bytes)
    return {PEAK: peak / 1e6}


def _counted(
    context: TrialContext, config: Config, parts: int, checkpoints: bool
) -> Forecast:
    """Run what a trial runs where tensors have sizes and no memory."""
    row, problem = method(config.text("method")), context.problem
    if "backbone" not in config:
        return Forecast(
            memory_bytes=BASE_BYTES, weights_bytes=0, trained_bytes=0, seconds=0.0
        )
    base = _bare(context.card(config.text("backbone")))
    every = _lengths(base, problem.inputs)
    longest = np.sort(every)[::-1]
    count = StorageCount(allocated_bytes(context.placement.device))
    fake = _Fake()
    if not isinstance(row, Trained):
        with FakeTensorMode(), count, torch.no_grad():
            fake(base.module)
            base.features(_inputs(base.card, longest[:ENCODED]))
        return _forecast(base.module, count.peak)

    place = training_place(context.placement, base.card)
    start = row.first_trained(config, base.depth)
    fork = row.forked(base, config, context.seed)
    fork.checkpoints = checkpoints
    chosen = problem.repeats(config)[0][0].train
    targets = problem.targets[chosen]
    settings = row.settings(config, context.seed, len(targets))
    loss, sampler = row.objective(targets, problem.task, config, context.seed)
    size = max(-(-settings.batch_size // parts) // place.processes, 1)
    draws = zip(range(settings.useful_steps), sampler(size, 0), strict=False)
    lengths = every[chosen]
    batch = max((np.unique(x) for _, x in draws), key=lambda x: lengths[x].sum())
    sizes = lengths[batch]
    head = None if row.is_contrastive else _blank_head(base.width, problem.task.width)
    wanted = torch.from_numpy(targets[batch])

    # Targets and weights of classes are real, and made fake on the way.
    with FakeTensorMode(allow_non_fake_inputs=True), count:
        fake(base.module)
        with torch.no_grad():
            read = _inputs(base.card, longest[:ENCODED])
            base.features(read)
            if start >= 0:
                read = base.stem(read, start)
        before = count.live
        fake(fork.module)
        held = [count.live - before] if len(problem.repeats(config)[0]) > 1 else []
        views = views_of(config)
        if start >= 0 and place.device == "cpu":  # the store's
            stored = views * _bytes(read, every)
            held.append(min(stored, context.store.max_memory_bytes))
        table = views * _bytes(read, np.full(len(lengths), lengths.max()))
        held.append(table)
        kept = [torch.empty(int(n), dtype=torch.uint8) for n in held]
        torch.empty(int(table), dtype=torch.uint8)  # the rows that it is made of
        trainee = Trainee(fork, start, None if head is None else fake(head))
        trainee.lengths_of = lambda mask: sizes[: len(mask)]
        two_steps(trainee, _like(read, sizes), wanted, loss, settings, place, parts)
        with torch.no_grad():
            rows = _like(read, longest[:BATCH])
            fork.features(rows) if start < 0 else fork.tail(rows, start)
        del kept
    return _forecast(trainee, count.peak)


def _forecast(module: nn.Module, peak: float) -> Forecast:
    own = {id(p): p for p in (*module.parameters(), *module.buffers())}.values()
    return Forecast(
        memory_bytes=BASE_BYTES + round(peak),
        weights_bytes=sum(p.nbytes for p in own),
        trained_bytes=sum(p.nbytes for p in own if p.requires_grad),
        seconds=0.0,
    )


def _bare(card: Card) -> Backbone:
    """Return a backbone without its weights."""
    module, anatomy = build_bare(card)
    return Backbone(
        card=card,
        module=module.eval().requires_grad_(False),
        recipe="",
        weights_sha256="",
        anatomy=anatomy,
        reader=reader_of(card, weights.locate(card), anatomy.pad_id),
    )


class _Fake:
    """Gives modules fake tensors for their own; what they shared, they share."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, module: nn.Module) -> nn.Module:
        """Change a module in place, and return it."""
        return module._apply(self._twin)

    def _twin(self, tensor: Tensor) -> Tensor:
        if id(tensor) not in self._made:
            made = torch.zeros(tensor.size(), dtype=tensor.dtype)
            self._made[id(tensor)] = tensor, made
        return self._made[id(tensor)][1]


def _lengths(backbone: Backbone, inputs: Sequence[Input]) -> Int[np.ndarray, " rows"]:
    """Return the tokens of texts; images have one length."""
    if backbone.card.modality == "image":
        return np.ones(len(inputs), dtype=int)
    rows = backbone.preprocess(inputs)
    return np.array([len(row["input_ids"]) for row in rows])


def _inputs(card: Card, lengths: Int[np.ndarray, " rows"]) -> Tensors:
    """Return a padded batch of inputs of some lengths."""
    if isinstance(card.input, ImageInput):
        size = card.input.size
        return {"pixels": torch.zeros(len(lengths), 3, size, size)}
    ids = torch.zeros(len(lengths), int(lengths.max()), dtype=torch.long)
    return {"input_ids": ids, MASK: torch.ones_like(ids)}


def _like(read: Tensors, lengths: Int[np.ndarray, " rows"]) -> Tensors:
    """Return a padded batch of what the encoder reads, of rows of other lengths."""
    shape = (len(lengths), int(lengths.max())) if MASK in read else (len(lengths),)
    return {
        name: tensor.new_ones((*shape, *tensor.shape[len(shape) :]))
        for name, tensor in read.items()
    }


def _bytes(read: Tensors, lengths: Int[np.ndarray, " rows"]) -> float:
    """Return the bytes of rows of some lengths."""
    places = len(next(iter(read.values()))) * (
        read[MASK].shape[1] if MASK in read else 1
    )
    each = sum(t.nbytes for name, t in read.items() if name != MASK) / places
    return each * float(lengths.sum())


def _blank_head(width: int, outputs: int) -> ScaledLinear:
    """Return a head as large as the one that a training starts from."""
    ones = np.ones(width, dtype=np.float32)
    return ScaledLinear(
        LinearHead(
            scaling=Scaling(unit=True, center=ones, scale=ones),
            weight=np.zeros((width, outputs), dtype=np.float32),
            bias=np.zeros(outputs, dtype=np.float32),
        )
    )
