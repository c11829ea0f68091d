"""Run model.pte by ExecuTorch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def load(folder: Path) -> Callable[[dict[str, np.ndarray]], Any]:
    """Return what turns inputs by name into logits and probabilities."""
    import torch
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(folder / "model.pte")
    method = program.load_method("forward")

    def run(inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        assert program is not None  # the method dies with its program
        given = [torch.from_numpy(x).contiguous() for x in inputs.values()]
        return tuple(x.numpy().copy() for x in method.execute(given))

    return run
