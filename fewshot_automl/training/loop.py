"""The training loop: one for every method and device, on Accelerate."""

import contextlib
import copy
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from fewshot_automl.errors import OutOfTime, TrialError, UserError
from fewshot_automl.training.batches import Sampler
from fewshot_automl.training.placement import DTYPES, Placement
from fewshot_automl.training.settings import TrainingSettings

if TYPE_CHECKING:
    from accelerate import Accelerator

Loss = Callable[[Tensor, Tensor], Tensor]
"""Takes the outputs and targets of a batch and returns a scalar."""

logger = logging.getLogger(__name__)

CHECKED: Final = 8
"""Examples on which a precision is checked before a run."""
PRECISE: Final = 0.1
"""Most that their loss may be off, as a share of the loss or of 1: bfloat16 keeps two
to three digits, and a training is about differences."""
PARTS: Final = (2, 4)
"""Pieces in which a batch is run, one after another, where memory runs out."""
ESTIMATED_AFTER: Final = 5
"""Steps from which the time of the rest is estimated."""


@runtime_checkable
class Rows(Protocol):
    """Gives the training examples, as inputs or as stored activations."""

    def __len__(self) -> int:
        """Return the number of examples."""

    def batch(
        self, indices: np.ndarray, step: int, own: slice = slice(None)
    ) -> dict[str, Tensor]:
        """Return some examples, collated; `step` may choose their augmented view.

        Of them only `own`, with the views that they have among all.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingLog:
    """Says what happened in a run."""

    losses: tuple[float, ...]
    """Loss of each step, over the whole batch."""
    parts: int
    """Pieces in which the examples of a step were run for lack of memory; 1 is none."""


def train(
    module: nn.Module,
    rows: Rows,
    targets: Tensor,
    loss: Loss,
    sampler: Sampler,
    settings: TrainingSettings,
    placement: Placement,
    *,
    deadline: float | None = None,
    parts: int = 1,
    blocks: Sequence[str] = (),
) -> TrainingLog:
    """Train what requires a gradient in a module, in place.

    The module is left on the placement's device, in eval mode. The same seed, rows
    and sampler give the same weights; torch's global random state is left as found.
    With several processes, all call this with the same arguments. Each runs its slice
    of every batch, the loss is that of the whole batch, and all end with the weights
    that one process would have; but for dropout, which each draws for itself.

    A batch that does not fit in memory is drawn as several smaller ones whose
    gradients are accumulated; `parts` are as many from the start. Products of low
    precision are used if a few examples have the same loss in them as in 32-bit floats.

    The module takes a batch of `rows` and returns one row of outputs an example; the
    deadline is on the clock of `time.monotonic`. Blocks name modules that are called,
    and can be sharded one by one.

    Raises:
        OutOfTime: If the deadline passes, or the steps left clearly cannot be made
            before it; the module keeps half-trained weights.
        TrialError: If the loss is no number, or memory runs out.
    """
    losses: list[float] = []
    if not _is_precise(module, rows, targets, loss, sampler, placement):
        placement = replace(placement, precision="no")
        logger.warning("The loss is wrong in low precision. %s", placement)
    with (
        _accelerated(placement) as accelerator,
        _own_randomness(settings.seed + accelerator.process_index),
    ):
        rank, processes = accelerator.process_index, accelerator.num_processes
        module.to(accelerator.device)
        targets = targets.to(accelerator.device)
        trained = (
            _sharded(module, blocks, placement) if placement.is_sharded else module
        )
        raw = adamw(trained, settings)
        schedule = torch.optim.lr_scheduler.LambdaLR(raw, settings.multiplier)
        # Of a model that is sharded nothing is left to wrap.
        model = accelerator.prepare_model(trained, evaluation_mode=placement.is_sharded)
        optimizer = accelerator.prepare(raw)
        weights = [weight for group in raw.param_groups for weight in group["params"]]

        def agreed(*values: float) -> list[float]:
            """Return means over all processes, which must not part ways."""
            if processes == 1:
                return list(values)
            own = torch.tensor(values, device=accelerator.device)
            means: list[float] = accelerator.reduce(own, "mean").tolist()
            return means

        steps = settings.useful_steps
        clock = _Clock(deadline, steps, agreed)

        def run(batch_size: int) -> None:
            """Make the steps that are left, with at most so many examples at once."""
            parts = -(-settings.batch_size // batch_size)
            accelerator.gradient_accumulation_steps = parts
            accelerator.step = 0  # an earlier call may have ended amid its parts
            batches = sampler(batch_size)
            while len(losses) < steps:
                clock.check(len(losses))
                raw.zero_grad()  # the prepared one does nothing amid accumulation
                total = 0.0
                for _ in range(parts):
                    with accelerator.accumulate(model):
                        drawn = next(batches)
                        sizes = [len(x) for x in np.array_split(drawn, processes)]
                        begin = sum(sizes[:rank])
                        # Where none is left for a process, it runs the last one again.
                        own = slice(begin if sizes[rank] else -1, begin + sizes[rank])
                        outputs = model(rows.batch(drawn, len(losses), own)).float()
                        places = torch.from_numpy(drawn).to(targets.device)
                        if processes > 1:
                            outputs = _gathered(outputs, sizes, rank)
                        value = loss(outputs, targets[places])
                        total += agreed(float(value.detach()))[0] / parts
                        _check_loss(total, len(losses), settings.steps)
                        # Gradients are averaged over processes, of which each has only
                        # what its own outputs share in the loss of the whole batch.
                        accelerator.backward(value * processes)
                accelerator.clip_grad_norm_(weights, settings.max_grad_norm)
                optimizer.step()
                schedule.step()
                losses.append(total)
                if settings.has_converged(losses):
                    break

        try:
            trained.train()
            size = -(-settings.batch_size // parts)
            if processes == 1:
                _within_memory(run, size, placement.device)
            else:  # where one of several runs out of memory, the others wait for it
                run(size)
            if trained is not module:
                _take_over(module, trained)
        finally:
            raw.zero_grad()
            accelerator.unwrap_model(model, keep_fp32_wrapper=False)
            module.eval()
        parts = accelerator.gradient_accumulation_steps
        return TrainingLog(losses=tuple(losses), parts=parts)


def _is_precise(
    module: nn.Module,
    rows: Rows,
    targets: Tensor,
    loss: Loss,
    sampler: Sampler,
    placement: Placement,
) -> bool:
    """Return whether the loss of the first examples is the same in 32-bit floats.

    Every process looks at the same examples, so all decide the same.
    """
    kind = DTYPES.get(placement.precision)
    if kind is None:
        return True
    device = torch.device(placement.device)
    module.to(device).eval()
    drawn = next(sampler(CHECKED))
    batch, wanted = rows.batch(drawn, 0), targets[torch.from_numpy(drawn)].to(device)
    values = []
    for is_rough in (True, False):
        rough = torch.autocast(device.type, kind, enabled=is_rough)
        with torch.no_grad(), rough:
            outputs = module(batch)
        values.append(float(loss(outputs.float(), wanted)))
    off = abs(values[0] - values[1])
    return off <= PRECISE * max(abs(values[1]), 1.0)  # not where one is no number


def _gathered(outputs: Tensor, sizes: Sequence[int], rank: int) -> Tensor:
    """Return the outputs of all processes; a gradient flows to this one's only."""
    padded = outputs.new_zeros((max(sizes), *outputs.shape[1:]))
    padded[: sizes[rank]] = outputs[: sizes[rank]].detach()
    every = [torch.empty_like(padded) for _ in sizes]
    torch.distributed.all_gather(every, padded)
    parts = [part[:size] for part, size in zip(every, sizes, strict=True)]
    parts[rank] = outputs[: sizes[rank]]
    # A process without examples needs a gradient too, of 0: the others wait for it.
    return torch.cat(parts) + 0.0 * outputs.sum()


def _sharded(
    module: nn.Module, blocks: Sequence[str], placement: Placement
) -> nn.Module:
    """Return a twin whose parameters are spread over all processes, block by block.

    Frozen ones outside the blocks are shared with the module, whole.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    inside = {p for name in blocks for p in module.get_submodule(name).parameters()}
    kept = {p for p in module.parameters() if not p.requires_grad} - inside
    twin = copy.deepcopy(module, {id(parameter): parameter for parameter in kept})
    for parameter in set(twin.parameters()) - kept:
        # Weights of images are stored channels last, which cannot be cut.
        parameter.data = parameter.data.contiguous()
    mesh = init_device_mesh(placement.device.partition(":")[0], (placement.processes,))
    for name in blocks:
        fully_shard(twin.get_submodule(name), mesh=mesh)
    fully_shard(twin, mesh=mesh, ignored_params=kept)
    return twin


@torch.no_grad()
def _take_over(module: nn.Module, sharded: nn.Module) -> None:
    """Give a module the weights of its sharded twin, in every process."""
    from torch.distributed.tensor import DTensor

    for own, shard in zip(module.parameters(), sharded.parameters(), strict=True):
        if own.requires_grad:
            assert isinstance(shard, DTensor)
            own.copy_(shard.full_tensor())


def adamw(module: nn.Module, settings: TrainingSettings) -> torch.optim.AdamW:
    """Return AdamW over what a module wants trained.

    Vectors and scalars (biases, norms) do not decay: pulling them to 0 regularises
    nothing. Parameters under ``module.head`` may have a learning rate of their own.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            is_head = name == "head" or name.startswith("head.")
            groups.setdefault((is_head, parameter.ndim >= 2), []).append(parameter)
    head_rate = settings.head_learning_rate or settings.learning_rate
    kinds = {p.device.type for group in groups.values() for p in group}
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": head_rate if is_head else settings.learning_rate,
                "weight_decay": settings.weight_decay if decays else 0.0,
            }
            for (is_head, decays), parameters in groups.items()
        ],
        # One kernel for the whole update: 4 times as fast as the plain loop on a
        # CPU core, for MiniLM's last blocks as for LoRA's small matrices.
        fused=kinds <= {"cpu", "cuda"},
    )


def _check_loss(value: float, step: int, steps: int) -> None:
    if not math.isfinite(value):
        raise TrialError(
            f"loss became {'NaN' if math.isnan(value) else value} at step "
            f"{step + 1} of {steps}. Use a lower learning rate."
        )


def _within_memory(run: Callable[[int], None], size: int, device: str) -> None:
    """Call `run` with a batch size, and with smaller ones where memory runs out."""
    from accelerate.utils.memory import (
        find_executable_batch_size,
        should_reduce_batch_size,
    )

    try:
        # `find_executable_batch_size` collects garbage on every call, which takes half
        # a second with torch and transformers loaded.
        return run(size)
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
    half, *less = (-(-size // parts) for parts in PARTS)
    smaller = iter((*less, 0))
    try:
        find_executable_batch_size(
            run, starting_batch_size=half, reduce_batch_size_fn=lambda: next(smaller)
        )()
    except RuntimeError as error:
        if "No executable batch size" not in str(error):
            raise
        raise TrialError(
            f"Out of memory: a batch of {size} does not fit on {device}, not even in "
            f"parts of {less[-1]}. Use a smaller batch_size."
        ) from error


@contextlib.contextmanager
def _accelerated(placement: Placement) -> "Iterator[Accelerator]":
    """Give an Accelerator of this placement.

    Accelerate keeps one state a process, fixed by its first Accelerator. A study may
    train here and later there, and the user's own program may have made a state: it is
    set aside while we train, and put back. The processes of a launcher stay connected.

    Raises:
        UserError: If there are more or fewer processes than the placement wants.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState, GradientState, PartialState

    kinds = (PartialState, AcceleratorState, GradientState)
    states = [kind._shared_state for kind in kinds]
    before = [dict(state) for state in states]
    for state in states:
        state.clear()
    gpu = placement.device if placement.device.startswith("cuda") else None
    try:
        with torch.cuda.device(gpu) if gpu else contextlib.nullcontext():
            accelerator = Accelerator(
                cpu=placement.device == "cpu",
                mixed_precision=placement.precision,
                kwargs_handlers=[
                    # A tail leaves out parameters that only other outputs use.
                    DistributedDataParallelKwargs(find_unused_parameters=True)
                ],
            )
            if (started := accelerator.num_processes) != placement.processes:
                raise UserError(
                    f"Training must be shared by the processes that were started, "
                    f"{started}, got {placement.processes}. Start them with torchrun "
                    "--nproc_per_node N, or give --processes N and no launcher."
                )
            yield accelerator
    finally:
        for state, values in zip(states, before, strict=True):
            state.clear()
            state.update(values)


@contextlib.contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Seed torch, and leave its random state as it was found."""
    # On the CPU and on the current GPU, which `_accelerated` has chosen.
    gpus = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(seed)
        yield


class _Clock:
    """Ends a run whose deadline has passed, or clearly will before its last step."""

    def __init__(
        self, deadline: float | None, steps: int, agreed: Callable[..., list[float]]
    ) -> None:
        self._deadline = deadline
        self._steps = steps
        self._agreed = agreed
        self._warm_since = 0.0

    def check(self, done: int) -> None:
        """Raise `OutOfTime` where going on is of no use.

        The first step warms caches up and says nothing of the others; a run is given
        up early only if its rest needs twice the time that is left.
        """
        if self._deadline is None:
            return
        now = time.monotonic()
        if done == 1:
            self._warm_since = now
        each = (now - self._warm_since) / (done - 1) if done > 1 else 0.0
        left, each = self._agreed(self._deadline - now, each)
        needs = each * (self._steps - done) if done >= ESTIMATED_AFTER else 0.0
        if left <= 0:
            raise OutOfTime(
                f"The deadline passed after {done} of {self._steps} training steps."
            )
        if needs > 2 * left:
            raise OutOfTime(
                f"Given up after {done} of {self._steps} training steps: the rest "
                f"needs {needs:.1f} s and {left:.1f} s are left."
            )
