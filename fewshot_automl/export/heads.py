"""Fitted heads as layers of torch: the same arithmetic in 32-bit floats."""

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from fewshot_automl.adaptation.heads import Head, KernelHead, LinearHead, NeighbourHead
from fewshot_automl.errors import ExportError


class HeadLayer(nn.Module):
    """A head's arrays as buffers, under its scaling.

    Raises:
        ExportError: If nobody has written its type for torch.
    """

    center: Tensor
    scale: Tensor

    def __init__(self, head: Head) -> None:
        super().__init__()
        if type(head) not in LOGITS:
            known = ", ".join(row.kind for row in LOGITS)
            raise ExportError(
                f"A head must be one of {known} to be exported, got {head.kind!r}. "
                "Predict with this package."
            )
        self.logits, arrays = LOGITS[type(head)], head.arrays()
        self.unit = bool(arrays.pop("unit")[0])
        self.nearest = int(arrays.pop("neighbours", [0])[0])
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(array).float())

    def forward(self, features: Tensor) -> Tensor:
        """Return log probabilities, [batch, classes]."""
        rows = normalize(features, dim=1, eps=1e-12) if self.unit else features
        rows = (rows - self.center) / self.scale
        return torch.log_softmax(self.logits(self, rows), dim=1)


def _linear(head: Any, rows: Tensor) -> Tensor:
    made: Tensor = rows @ head.weight + head.bias
    return made


def _kernel(head: Any, rows: Tensor) -> Tensor:
    # Differences, not the product's expansion, which cancels in 32-bit floats.
    distances = (rows[:, None] - head.support[None]).square().sum(2)
    made: Tensor = torch.exp(-head.gamma * distances) @ head.coefficients + head.bias
    return made


def _neighbour(head: Any, rows: Tensor) -> Tensor:
    cosine = normalize(rows, dim=1, eps=1e-12) @ head.points.T
    if head.nearest < len(head.points):
        least = torch.topk(cosine, head.nearest, dim=1).values[:, -1:]
        cosine = torch.where(cosine >= least, cosine, -torch.inf)
    votes = torch.softmax(cosine * head.sharpness, dim=1) @ head.votes
    return torch.log(votes + 1e-3)  # as much as the head itself adds


LOGITS: Final[dict[type[Head], Callable[[Any, Tensor], Tensor]]] = {
    LinearHead: _linear,
    KernelHead: _kernel,
    NeighbourHead: _neighbour,
}
"""One row a head; a subclass with another activation needs its own."""
