"""Plain facts of machines and of what a training needs, for both wings."""

from dataclasses import dataclass
from typing import Final

PROCESS_BYTES: Final = 550_000_000
"""Of a process that has loaded torch and what trials need, or of a GPU's context."""
FULL: Final = 0.9
"""Of a device's memory, what may be planned: the rest is lost between blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One place that can compute: a GPU, Apple's GPU, or the CPU with all its cores."""

    kind: str
    """``cuda``, ``mps`` or ``cpu``."""
    memory_bytes: int | None = None
    """Of the GPU, or of the machine; None if nobody knows."""
    cores: int = 1
    """Of the CPU."""
    node: int = 0
    """The machine that it is in."""
    is_linked: bool = False
    """Whether it has a fast link (NVLink) to the others of its node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Says what one training is expected to need on one device, before it runs."""

    memory_bytes: int
    """Peak of the process: what it has loaded, weights, and all that training adds."""
    weights_bytes: int
    """Of parameters and buffers, frozen ones too."""
    trained_bytes: int
    """Of parameters that are trained: their copy and gradients need as much each, and
    AdamW twice as much."""
    seconds: float
    """Of the training."""
