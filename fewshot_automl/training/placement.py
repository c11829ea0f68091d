"""Where a run trains: the device, the precision, and how many processes share it."""

import os
import time
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

import psutil
import torch

from fewshot_automl.errors import UserError
from fewshot_automl.group import launched
from fewshot_automl.hardware import Device

Precision = Literal["no", "bf16", "fp16"]

DTYPES: Final[dict[Precision, torch.dtype]] = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
"""What autocast computes products in; "no" leaves them in 32-bit floats."""

DEVICE_VARIABLE: Final = "FEWSHOT_DEVICE"
"""Names the device to use, as `torch.device` spells it, whatever else is there."""
PRODUCT: Final = (512, 768)
"""Rows and width of the products by which a CPU's bfloat16 is judged."""
PRODUCT_TIMES: Final = 10
PRODUCT_SECONDS: Final = 0.05
"""Products of one precision, and the seconds after which no other is tried: without
hardware for it one in bfloat16 may take a tenth of a second."""
CLEARLY: Final = 2.5
"""How many times as fast they must be. Casts of gradients and the optimiser eat a
factor of two; CPUs that multiply bfloat16 in tiles (AMX) reach three to seven."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Says where one process of a run computes, and how many there are.

    >>> print(Placement(device="cpu"))
    Training on the CPU in 32-bit floats.
    """

    device: str
    """As `torch.device` spells it: ``cpu``, ``cuda:0``, ``mps``."""
    precision: Precision = "no"
    """What matrix products run in; weights and losses stay 32-bit floats."""
    processes: int = 1
    """Processes that share each batch, this one included."""
    is_sharded: bool = False
    """Whether each holds only its share of what is trained, of the gradients and of the
    optimiser's state (FSDP2); else each holds all of it (DDP)."""
    weights_bytes: int | None = None
    """Of a backbone's weights, what has room on the device; the rest stays in its file
    but while it is used. None where all of it fits."""

    def __str__(self) -> str:
        """Return a sentence for people."""
        kind, _, number = self.device.partition(":")
        places = {"cpu": "the CPU", "cuda": f"GPU {number or 0}", "mps": "Apple's GPU"}
        how = "sharded over" if self.is_sharded else "shared by"
        shared = f", {how} {self.processes} processes," if self.processes > 1 else ""
        low = {"bf16": "bfloat16 products", "fp16": "float16 products"}
        where = places.get(kind, self.device)
        floats = low.get(self.precision, "32-bit floats")
        return f"Training on {where}{shared} in {floats}."


def visible_devices() -> tuple[str, ...]:
    """Return every device this process may use, best first; the CPU comes last."""
    found = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return (*found, "cpu")


def shared_gpus(device: str | None = None) -> int:
    """Return how many GPUs the workers of a study may share out among them.

    A device that is named by its number is never shared out: a worker that sees one
    GPU knows it by another number.
    """
    named = device or os.environ.get(DEVICE_VARIABLE)
    if named not in (None, "cuda"):
        return 0
    return sum(name.startswith("cuda") for name in visible_devices())


def found_devices(device: str | None, cores: int) -> list[Device]:
    """Return what trials may run on, best first: a named device, or all there is."""
    memory, named = psutil.virtual_memory(), device or os.environ.get(DEVICE_VARIABLE)
    found = [Device(kind="cpu", memory_bytes=memory.available, cores=cores)]
    names = visible_devices()[:-1] if named in (None, "cuda") else (named,)
    for kind, _, number in (name.partition(":") for name in reversed(names)):
        size = memory.total  # Apple's GPU has none of its own
        if kind == "cuda":
            size = torch.cuda.get_device_properties(int(number or 0)).total_memory
        if kind != "cpu":
            found.insert(0, Device(kind=kind, memory_bytes=size))
    return found


def choose_placement(device: str | None = None) -> Placement:
    """Return the best place for this process.

    Under ``accelerate launch`` each process takes its own GPU and they share every
    batch. Otherwise the first GPU is used, or Apple's, or the CPU. Products run in
    bfloat16 on GPUs that have it in hardware, in float16 on older ones that have that,
    and in bfloat16 on CPUs where a measurement finds it much faster: elsewhere it is
    slower than 32-bit floats, or wrong. A named
    device overrides the choice, as the variable ``FEWSHOT_DEVICE`` does.

    Raises:
        UserError: If the named device is not there.
    """
    visible = visible_devices()
    named = device or os.environ.get(DEVICE_VARIABLE)
    if named == "cuda" or (named is None and visible[0].startswith("cuda")):
        named = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    chosen = named or visible[0]
    if chosen not in visible:
        raise UserError(
            f"Device must be one of {', '.join(visible)}, got {chosen!r}. "
            f"Change {DEVICE_VARIABLE} or leave it out."
        )
    precision: Precision = "no"
    if chosen.startswith("cuda"):
        version = torch.cuda.get_device_capability(chosen)
        if version >= (7, 0):
            precision = "bf16" if version >= (8, 0) else "fp16"
    if chosen == "cpu" and cpu_prefers_bfloat16():
        precision = "bf16"
    return Placement(device=chosen, precision=precision, processes=launched())


@cache
def cpu_prefers_bfloat16() -> bool:
    """Return whether products of matrices are `CLEARLY` faster here in bfloat16.

    Seconds of this thread count, and the fastest of a few: other programs do not.
    """
    width = PRODUCT[1]

    def seconds(kind: torch.dtype) -> float:
        left, right = torch.ones(PRODUCT, dtype=kind), torch.ones(width, width).to(kind)
        took: list[float] = []
        while len(took) < PRODUCT_TIMES and sum(took) < PRODUCT_SECONDS:
            start = time.thread_time()
            left @ right
            took.append(time.thread_time() - start)
        return min(took)

    return seconds(torch.float32) > CLEARLY * seconds(torch.bfloat16)
