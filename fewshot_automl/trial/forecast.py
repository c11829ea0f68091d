"""What a trial will need: memory, counted on tensors that have none, and time."""

from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Final

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from fewshot_automl.adaptation.encodings import ENCODED
from fewshot_automl.adaptation.fitted import BATCH
from fewshot_automl.adaptation.table import method
from fewshot_automl.adaptation.trained import Trained, training_place, views_of
from fewshot_automl.adaptation.trainee import Trainee
from fewshot_automl.backbones import weights
from fewshot_automl.backbones.backbone import MASK, Backbone, Tensors
from fewshot_automl.backbones.card import Card
from fewshot_automl.backbones.readers import reader_of
from fewshot_automl.hardware import PROCESS_BYTES, Forecast
from fewshot_automl.space import Config
from fewshot_automl.training.memory import (
    StorageCount,
    allocated_bytes,
    later_step,
    room_bytes,
)
from fewshot_automl.trial.context import TrialContext
from fewshot_automl.trial.measures import build_bare
from fewshot_automl.trial.workload import rough_forecast

PEAK: Final = "peak_memory_mb"
"""Measure of a trial: millions of bytes that its process held at most."""
WAYS: Final = ((1, False), (2, False), (4, False), (4, True))
"""Parts of a batch, and whether blocks are run again: from the fastest way on."""
LATEST: Final = 3
"""Trials whose measured peaks correct forecasts."""


def forecast(
    context: TrialContext,
    config: Config,
    *,
    seconds: float = 0.0,
    parts: int = 1,
    checkpoints: bool = False,
) -> Forecast:
    """Return what a trial needs on the context's device.

    The trial's own code runs on fake tensors: encoding, a step of the training, and
    predicting. That takes a CPU second or two, once for Configs of one shape. What is
    counted is multiplied by how far the latest trials of this process were off.

    Batches run in so many `parts`; with `checkpoints` blocks run again for gradients.
    The seconds are what the cost model says of the training.

    Raises:
        TrialError: If the Config cannot be trained whatever the memory.
    """
    key = _key(config, parts, checkpoints)
    if key not in context.forecasts:
        context.forecasts[key] = _counted(context, config, parts, checkpoints)
    plain = context.forecasts[key]
    memory = plain.memory_bytes * median(context.missed[-LATEST:] or [1.0])
    return replace(plain, memory_bytes=round(memory), seconds=seconds)


def thrift(context: TrialContext, config: Config) -> tuple[int, bool]:
    """Return in how many parts batches fit, and whether only with checkpoints."""
    room, trains = room_bytes(context.placement.device), context.problem.trains(config)
    is_shared = context.placement.processes > 1  # each could find another room
    if room is None or is_shared or not trains or "backbone" not in config:
        return WAYS[0]
    card = context.card(config.text("backbone"))
    flops = float(config["batch_size"]) * card.flops
    bound = rough_forecast(card, flops, trained=1.0)
    if bound.memory_bytes < room:
        return WAYS[0]  # plenty, so nothing is counted
    if context.backbone(card.id).in_file:
        return WAYS[0]  # it is not trained
    for parts, checkpoints in WAYS:
        needs = forecast(context, config, parts=parts, checkpoints=checkpoints)
        if needs.memory_bytes <= room:
            break
    return parts, checkpoints


def remembered(
    context: TrialContext, config: Config, way: tuple[int, bool], peak: float | None
) -> dict[str, float]:
    """Return the measure of a trial's peak, and learn from it for later forecasts.

    The way is the one of `thrift` in which it has run.
    """
    if peak is None:
        return {}
    plain = context.forecasts.get(_key(config, *way))
    if plain is not None:
        context.missed.append(peak / plain.memory_bytes)
    return {PEAK: peak / 1e6}


def _key(config: Config, parts: int, checkpoints: bool) -> tuple[object, ...]:
    """Return all that memory depends on."""
    names = "method backbone batch_size steps frozen_fraction augmentation rank"
    names += " lora_variant lora_dropout"
    return *(config.get(name, "") for name in names.split()), parts, checkpoints


def _counted(
    context: TrialContext, config: Config, parts: int, checkpoints: bool
) -> Forecast:
    """Run what a trial runs where tensors have sizes and no memory."""
    row, problem = method(config.text("method")), context.problem
    if "backbone" not in config:
        return _forecast(nn.Identity(), 0.0)
    base = _bare(context.card(config.text("backbone")))
    place = training_place(context.placement, base.card)
    chosen = problem.repeats(config)[0][0].train
    targets, start = problem.targets[chosen], row.first_trained(config, base.depth)
    # Pictures are all as large as the first.
    inputs = problem.inputs if base.card.modality == "text" else problem.inputs[:1]
    rows = base.preprocess(inputs)
    lengths = np.array([len(next(iter(row.values()))) for row in rows])
    lengths = np.resize(lengths, len(problem.inputs))
    longest = np.sort(lengths)[::-1]
    one = base.collate(rows[:1])
    if isinstance(row, Trained):
        fork = row.forked(base, config, context.seed)
        fork.checkpoints = checkpoints
        settings = row.settings(config, context.seed, len(targets))
        loss, sampler = row.objective(targets, problem.task, config, context.seed)
        size = -(-settings.batch_size // parts)
        draws = zip(range(settings.useful_steps), sampler(size), strict=False)
        sizes = lengths[chosen]
        batch = max((np.unique(x) for _, x in draws), key=lambda x: sizes[x].sum())
        wanted, sizes = torch.from_numpy(targets[batch]), sizes[batch]
        head = nn.Linear(base.width, problem.task.width)
        trainee = Trainee(fork, start, None if row.is_contrastive else head)
        trainee.lengths_of = lambda mask: sizes[: len(mask)]

    fake = _faker()
    count = StorageCount()
    # What is real, such as weights of classes, is made fake on the way.
    with FakeTensorMode(allow_non_fake_inputs=True), count:
        fake(base.module)  # as large as its file
        count.weigh = allocated_bytes(place.device)
        read = _like(one, longest[:ENCODED])
        with torch.no_grad():
            if start >= 0:
                read = base.stem(read, start)
                base.tail(read, start)
            else:
                base.features(read)
        if not isinstance(row, Trained):
            return _forecast(base.module, count.peak)
        before = count.live
        fake(trainee)
        each = sum(t.nbytes for name, t in read.items() if name != MASK)
        table = views_of(config) * len(lengths) * each / min(len(lengths), ENCODED)
        is_stored = start >= 0 and place.device == "cpu"
        stored = min(table, context.store.max_memory_bytes) if is_stored else 0.0
        # The model of the fold before is there until this one is.
        kept = count.live - before + table + stored
        others = torch.empty(int(kept), dtype=torch.uint8)
        seen = _like(read, sizes)
        later_step(trainee, seen, wanted.clone(), loss, settings, place, parts)
        with torch.no_grad():
            read = _like(read, longest[:BATCH])
            fork.features(read) if start < 0 else fork.tail(read, start)
        del others
    return _forecast(trainee, count.peak)


def _forecast(module: nn.Module, peak: float) -> Forecast:
    own = [*module.parameters(), *module.buffers()]
    return Forecast(
        memory_bytes=PROCESS_BYTES + round(peak),
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


def _faker() -> Callable[[nn.Module], nn.Module]:
    """Return what gives modules fake tensors; what they shared, they share."""
    made: dict[int, tuple[Tensor, Tensor]] = {}

    def twin(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            made[id(tensor)] = tensor, torch.zeros(tensor.size(), dtype=tensor.dtype)
        return made[id(tensor)][1]

    return lambda module: module._apply(twin)  # type: ignore[no-untyped-call]


def _like(batch: Tensors, lengths: Int[np.ndarray, " rows"]) -> Tensors:
    """Return a batch of rows of other lengths, padded; images have one length."""
    shape = (len(lengths), int(lengths.max())) if MASK in batch else (len(lengths),)
    return {
        name: torch.ones((*shape, *tensor.shape[len(shape) :]), dtype=tensor.dtype)
        for name, tensor in batch.items()
    }
