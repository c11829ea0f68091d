"""Run model.pt2, the program that torch.export wrote, by PyTorch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def load(folder: Path) -> Callable[[dict[str, np.ndarray]], Any]:
    """Return what turns inputs by name into logits and probabilities."""
    import torch

    module = torch.export.load(folder / "model.pt2").module()

    def run(inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        with torch.no_grad():
            made = module(*(torch.from_numpy(x) for x in inputs.values()))
        return tuple(each.numpy() for each in made)

    return run
