"""What processes that train together tell each other besides gradients.

One of them is the first. It alone decides, by its clock and its errors, and tells the
others. All of it goes over gloo and a group of its own, so that it cannot be mixed up
with what a training that broke off has left under way.
"""

import os
import sys
from datetime import timedelta
from typing import Any, Final

PATIENCE: Final = timedelta(days=30)
"""How long a process waits for another that is alive; the dead are noticed at once."""

_groups: list[Any] = []
"""Of `torch.distributed`, once this process has joined."""


def launched() -> int:
    """Return how many processes torchrun or ``accelerate launch`` started, at least 1.

    A cluster may set ``WORLD_SIZE`` for a job that is not torch's: waiting for
    processes that nobody started would never end.
    """
    dist = sys.modules.get("torch.distributed")  # who has not imported it, has not met
    is_connected = dist is not None and dist.is_available() and dist.is_initialized()
    if is_connected or {"RANK", "MASTER_ADDR"} <= os.environ.keys():
        return int(os.environ.get("WORLD_SIZE", "1"))
    return 1


def is_one_of_several() -> bool:
    """Return whether ``accelerate launch`` was to start several and started this one.

    Only then does it say where they would meet, and not who they are.
    """
    is_accelerate = {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= os.environ.keys()
    return is_accelerate and "RANK" not in os.environ


def number() -> int:
    """Return the number of this process; the first is 0."""
    return int(os.environ.get("RANK", "0"))


def join() -> None:
    """Meet the processes that the variables of torchrun name, unless that is done."""
    import torch
    import torch.distributed as dist

    if _groups:
        return
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)
    _groups.append(dist.new_group(backend="gloo", timeout=PATIENCE))


def tell(what: Any) -> None:
    """Tell all others, who must `hear`, something that can be pickled."""
    import torch.distributed as dist

    dist.broadcast_object_list([what], src=0, group=_groups[0])


def hear() -> Any:
    """Return what the first process tells, whenever it does."""
    import torch.distributed as dist

    told = [None]
    dist.broadcast_object_list(told, src=0, group=_groups[0])
    return told[0]


def have_met(patience: timedelta = PATIENCE) -> bool:
    """Return whether all processes come to this point, waiting so long for them."""
    import torch.distributed as dist

    try:  # `monitored_barrier` minds its timeout only in the first process
        dist.barrier(_groups[0], async_op=True).wait(patience)
    except RuntimeError:  # one is dead, or does something else
        return False
    return True
