"""Where a run trains, and what the processes that share it say to each other.

The only file that knows Accelerate. One process and many take the same path: with
one, every exchange returns what it was given.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fewshot_automl.errors import TrialError, UserError

Precision = Literal["no", "bf16"]

DEVICE_VARIABLE: Final = "FEWSHOT_DEVICE"
"""Names the device to use, as `torch.device` spells it, whatever else is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Says where one process of a run computes, and how many there are.

    >>> print(Placement(device="cpu"))
    Training on the CPU in 32-bit floats.
    """

    device: str
    """As `torch.device` spells it: ``cpu``, ``cuda:0``, ``mps``."""
    mixed_precision: Precision = "no"
    """What matrix products run in; weights and losses stay 32-bit floats."""
    processes: int = 1
    """Processes that share each batch, this one included."""

    def __post_init__(self) -> None:
        """Check the number of processes."""
        if self.processes < 1:
            raise UserError(f"processes must be at least 1, got {self.processes}.")

    def __str__(self) -> str:
        """Return a sentence for people."""
        kind, _, number = self.device.partition(":")
        places = {"cpu": "the CPU", "cuda": f"GPU {number or 0}", "mps": "Apple's GPU"}
        shared = f", one of {self.processes} processes" if self.processes > 1 else ""
        floats = {"no": "32-bit floats", "bf16": "bfloat16 products"}
        where = places.get(kind, self.device)
        return f"Training on {where}{shared} in {floats[self.mixed_precision]}."


def visible_devices() -> tuple[str, ...]:
    """Return every device this process may use, best first; the CPU comes last."""
    found = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return (*found, "cpu")


def shared_gpus(device: str | None = None) -> int:
    """Return how many GPUs the workers of a study may share out among them.

    Args:
        device: What the user asked for. One that is named by its number is never
            shared out: a worker that sees one GPU knows it by another number.
    """
    named = device or os.environ.get(DEVICE_VARIABLE)
    if named not in (None, "cuda"):
        return 0
    return sum(name.startswith("cuda") for name in visible_devices())


def choose_placement(device: str | None = None) -> Placement:
    """Return the best place for this process.

    Under ``accelerate launch`` (or `launch`) each process takes its own GPU and they
    share every batch. Otherwise the first GPU is used, or Apple's, or the CPU.
    Products run in bfloat16 on GPUs that have it in hardware: elsewhere it is slower
    than 32-bit floats, or wrong.

    Args:
        device: Overrides the choice, as the variable ``FEWSHOT_DEVICE`` does.

    Raises:
        UserError: If the named device is not there.
    """
    visible = visible_devices()
    processes = int(os.environ.get("WORLD_SIZE", "1")) if _is_launched() else 1
    local = int(os.environ.get("LOCAL_RANK", "0"))
    named = device or os.environ.get(DEVICE_VARIABLE)
    if named is None and os.environ.get("ACCELERATE_USE_CPU", "no") in _TRUE:
        named = "cpu"
    if named == "cuda" or (named is None and visible[0].startswith("cuda")):
        named = f"cuda:{local}"
    chosen = named or visible[0]
    if chosen not in visible:
        raise UserError(
            f"Device must be one of {', '.join(visible)}, got {chosen!r}. "
            f"Change {DEVICE_VARIABLE} or leave it out."
        )
    precision: Precision = "no"
    if chosen.startswith("cuda") and torch.cuda.get_device_capability(chosen) >= (8, 0):
        precision = "bf16"
    return Placement(device=chosen, mixed_precision=precision, processes=processes)


def _is_launched() -> bool:
    """Return whether a launcher has told this process how to find the others.

    A cluster may set ``WORLD_SIZE`` for a job that is not torch's: waiting for
    processes that nobody started would never end.
    """
    is_connected = (
        torch.distributed.is_available() and torch.distributed.is_initialized()
    )
    return is_connected or {"RANK", "MASTER_ADDR"} <= os.environ.keys()


_TRUE: Final = frozenset({"1", "true", "yes", "on"})


def launch(
    function: Callable[..., None],
    arguments: tuple[Any, ...] = (),
    *,
    processes: int,
    device: Literal["cpu", "cuda"] = "cpu",
) -> None:
    """Run a function in several new processes through Accelerate's launcher.

    Each calls `choose_placement` and finds its own device. They are forked, so the
    caller must not have used a GPU or several threads yet; a script that does
    nothing else is best. What they find out they write to files.

    Args:
        function: What each process runs.
        arguments: Given to each.
        processes: How many; 1 calls the function right here.
        device: ``cuda`` gives each process a GPU.
    """
    if processes == 1:
        function(*arguments)
        return
    import accelerate

    if device == "cpu":
        accelerate.debug_launcher(function, arguments, processes)
    else:
        accelerate.notebook_launcher(function, arguments, num_processes=processes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """The processes that train one model together, seen from one of them.

    Every process draws the same batch and takes its share of it; the losses see the
    outputs of all. Methods that exchange something must be called by all.
    """

    device: torch.device
    """Where this process computes."""
    rank: int
    """This process's number, from 0."""
    size: int
    """Number of processes."""
    precision: Precision
    """What matrix products run in."""

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return the context in which a forward pass runs."""
        if self.precision == "no":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def share(self, batch: np.ndarray) -> np.ndarray:
        """Return this process's part of a batch; all parts have one size.

        The last parts repeat the last example where the batch does not divide;
        `gather` drops the repetition.
        """
        if self.size == 1:
            return batch
        part = -(-batch.size // self.size)
        places = np.arange(self.rank * part, (self.rank + 1) * part)
        return batch[np.minimum(places, batch.size - 1)]

    def gather(self, outputs: Tensor, count: int) -> Tensor:
        """Return the outputs of the whole batch, `count` rows, in its order.

        Gradients flow into this process's own; the others' are constants. The sum
        over processes of what they give is the gradient of the whole.
        """
        if self.size == 1:
            return outputs
        from accelerate.utils import gather

        part = outputs.shape[0]
        everyone: Tensor = gather(outputs.detach())
        first = self.rank * part
        parts = [everyone[:first], outputs, everyone[first + part :]]
        return torch.cat(parts)[:count]

    def any(self, is_true: bool) -> bool:
        """Return whether it is true in any process."""
        if self.size == 1:
            return is_true
        from accelerate.utils import reduce

        flags: Tensor = reduce(torch.tensor(float(is_true), device=self.device), "sum")
        return bool(flags > 0)

    def first(self, value: float) -> float:
        """Return what the first process holds."""
        if self.size == 1:
            return value
        from accelerate.utils import broadcast

        kind = torch.float32 if self.device.type == "mps" else torch.float64
        told: Tensor = broadcast(torch.tensor([value], dtype=kind, device=self.device))
        return float(told)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over processes, in one exchange."""
        if self.size == 1:
            return
        from accelerate.utils import reduce

        gradients = [p.grad for p in parameters if p.grad is not None]
        total: Tensor = reduce(torch.cat([g.reshape(-1) for g in gradients]), "sum")
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, piece in zip(gradients, torch.split(total, sizes), strict=True):
            gradient.copy_(piece.view_as(gradient))

    def align(self, tensors: Iterable[Tensor]) -> None:
        """Give tensors, in place, the values they have in the first process."""
        if self.size == 1:
            return
        from accelerate.utils import broadcast

        with torch.no_grad():
            for tensor in tensors:
                tensor.copy_(broadcast(tensor.detach().contiguous()))


def join(placement: Placement) -> Team:
    """Return the team this process belongs to; the first call connects it.

    Accelerate's state is one per process: thousands of fits share it, and a state
    that the user's own program made is used as it is.

    Raises:
        TrialError: If this process was not started as one of `processes`.
    """
    device = torch.device(placement.device)
    if placement.processes == 1:
        return Team(device=device, rank=0, size=1, precision=placement.mixed_precision)
    rank, size = _connect(device.type == "cpu")
    if size != placement.processes:
        raise TrialError(
            f"processes must be {size}, the number that were started together, got "
            f"{placement.processes}. Start them with accelerate launch."
        )
    return Team(
        device=device, rank=rank, size=size, precision=placement.mixed_precision
    )


@functools.cache
def _connect(is_cpu: bool) -> tuple[int, int]:
    from accelerate import PartialState

    state = PartialState(cpu=is_cpu)
    return state.process_index, state.num_processes


@contextlib.contextmanager
def own_randomness(device: torch.device) -> Iterator[None]:
    """Leave torch's random state on the CPU and on `device` as it was found."""
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus, device_type="cuda"):
        yield


def seed_device(device: torch.device, *words: int) -> None:
    """Seed torch on the CPU and on one device from a few numbers."""
    entropy = np.random.SeedSequence(words).generate_state(1, np.uint64)
    seed = int(entropy[0]) >> 1
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def free_bytes(device: str) -> int:
    """Return the memory that is free on a device, torch's own reserve included."""
    if device.startswith("cuda"):
        reserve = torch.cuda.memory_reserved(device)
        used = torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + reserve - used
    if device == "mps":
        most = torch.mps.recommended_max_memory()
        return int(most - torch.mps.current_allocated_memory())
    import psutil

    return int(psutil.virtual_memory().available)


def empty_cache(device: str) -> None:
    """Give memory that torch holds but does not use back to the device."""
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error says that a batch was too large for the device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    from accelerate.utils.memory import should_reduce_batch_size

    return bool(should_reduce_batch_size(error))
