"""How much memory a training takes: counted without having it, or measured."""

import os
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import psutil
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fewshot_automl.hardware import FULL, PROCESS_BYTES
from fewshot_automl.training.loop import Loss, adamw
from fewshot_automl.training.placement import DTYPES, Placement
from fewshot_automl.training.settings import TrainingSettings

HEAP_FACTOR: Final = 1.5
"""What the C library's heap takes for a byte of small tensors: it keeps holes."""
HEAP_BYTES: Final = 2**25
"""Tensors of so many bytes get pages of their own, given back at once (glibc)."""
GPU_FACTOR: Final = 1.15
"""The same of torch's allocator on a GPU, which rounds and keeps blocks."""
HIGH_WATER: Final = Path("/proc/self/clear_refs")
"""Where Linux is told to forget the most memory that this process had."""


class StorageCount(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors that are alive, and the most there ever were.

    Tensors may be fake: those of torch's ``FakeTensorMode`` have sizes and no memory.
    """

    def __init__(self, weigh: Callable[[int], float] = float) -> None:
        """Count each storage that is new by what `weigh` says its bytes take."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0.0
        self.weigh = weigh
        self._seen: set[int] = set()

    def hold(self, tensors: Iterable[Tensor]) -> None:
        """Count tensors, those that were counted before not again."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key, size = storage._cdata, self.weigh(storage.nbytes())
            if key not in self._seen:
                self._seen.add(key)
                self.live += size
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: float) -> None:
        self._seen.discard(key)
        self.live -= size

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.hold(each for each in tree_leaves(out) if isinstance(each, Tensor))
        return out


def allocated_bytes(device: str) -> Callable[[int], float]:
    """Return what says how much memory a tensor of so many bytes takes on a device."""
    if device != "cpu":
        return lambda size: size * GPU_FACTOR
    return lambda size: size * (HEAP_FACTOR if size < HEAP_BYTES else 1.0)


def later_step(
    module: nn.Module,
    batch: dict[str, Tensor],
    targets: Tensor,
    loss: Loss,
    settings: TrainingSettings,
    placement: Placement,
    parts: int = 1,
) -> None:
    """Make a step of `train` after its first, on a batch that may be fake."""
    kind = DTYPES.get(placement.precision)
    optimizer = adamw(module, settings)
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    module.train()
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    optimizer.step()  # so that it has its state
    optimizer.zero_grad()
    for _ in range(min(parts, 2)):  # from the second on gradients are there before
        with torch.autocast(targets.device.type, kind, enabled=kind is not None):
            outputs = module(batch)
        value = loss(outputs.float(), targets) / parts
        value.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(weights, settings.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()
    module.eval()


def room_bytes(device: str) -> int | None:
    """Return the memory of a device that this process has or could have, if known."""
    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) + PROCESS_BYTES
    if device == "cpu":
        own = psutil.Process().memory_info().rss
        return int(psutil.virtual_memory().available + own)
    return None


def weights_room(device: str, shares: int = 1) -> int | None:
    """Return the bytes of weights that one of so many processes may put on a device.

    None if nobody knows. On a CPU it is what a plan counts with.
    """
    room = room_bytes(device)
    if device == "cpu":
        room = psutil.virtual_memory().available + PROCESS_BYTES
    return None if room is None else int(FULL * room) // shares - PROCESS_BYTES


def peak_memory(device: str) -> Callable[[], float | None]:
    """Begin to measure; return what says the most bytes this process held since.

    On a GPU it is what torch's allocator took; on a CPU only Linux counts it.
    """
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return lambda: float(torch.cuda.max_memory_reserved(device) + PROCESS_BYTES)
    if device != "cpu" or not os.access(HIGH_WATER, os.W_OK):
        return lambda: None
    HIGH_WATER.write_text("5")  # the mark is where the process is now
    status = HIGH_WATER.with_name("status")
    return lambda: 1024.0 * int(status.read_text().partition("VmHWM:")[2].split()[0])
