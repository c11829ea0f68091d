"""Fitted heads as layers of torch: the same arithmetic in 32-bit floats.

Each takes feature vectors and returns the logarithms of class probabilities.
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from fewshot_automl.adaptation.heads import (
    Head,
    KernelHead,
    LinearHead,
    NeighbourHead,
)
from fewshot_automl.errors import ExportError

SMOOTH: Final = 1e-3
"""What `NeighbourHead` adds to each class's votes."""


class HeadLayer(nn.Module):
    """A head's arrays as buffers, under its scaling."""

    center: Tensor
    scale: Tensor

    def __init__(self, head: Head) -> None:
        super().__init__()
        arrays = head.arrays()
        self.unit = bool(arrays.pop("unit")[0])
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(array).float())

    def forward(self, features: Tensor) -> Tensor:
        """Return log probabilities, [batch, classes]."""
        rows = normalize(features, dim=1, eps=1e-12) if self.unit else features
        return self.log_proba((rows - self.center) / self.scale)

    def log_proba(self, rows: Tensor) -> Tensor:
        """Return log probabilities for scaled features."""
        raise NotImplementedError


class LinearLayer(HeadLayer):
    """`LinearHead`."""

    weight: Tensor
    bias: Tensor

    def log_proba(self, rows: Tensor) -> Tensor:
        """Return log probabilities for scaled features."""
        return torch.log_softmax(rows @ self.weight + self.bias, dim=1)


class KernelLayer(HeadLayer):
    """`KernelHead`."""

    support: Tensor
    coefficients: Tensor
    bias: Tensor
    gamma: Tensor

    def log_proba(self, rows: Tensor) -> Tensor:
        """Return log probabilities for scaled features."""
        # Differences, not the product's expansion, which cancels in 32-bit floats.
        distances = (rows[:, None] - self.support[None]).square().sum(2)
        similarity = torch.exp(-self.gamma * distances)
        return torch.log_softmax(similarity @ self.coefficients + self.bias, dim=1)


class NeighbourLayer(HeadLayer):
    """`NeighbourHead`."""

    points: Tensor
    votes: Tensor
    sharpness: Tensor

    def __init__(self, head: Head) -> None:
        super().__init__(head)
        assert isinstance(head, NeighbourHead)
        self.nearest = head.neighbours

    def log_proba(self, rows: Tensor) -> Tensor:
        """Return log probabilities for scaled features."""
        cosine = normalize(rows, dim=1, eps=1e-12) @ self.points.T
        if self.nearest < len(self.points):
            least = torch.topk(cosine, self.nearest, dim=1).values[:, -1:]
            cosine = torch.where(cosine >= least, cosine, -torch.inf)
        weight = torch.softmax(cosine * self.sharpness, dim=1)
        votes = weight @ self.votes + SMOOTH
        return torch.log(votes / votes.sum(dim=1, keepdim=True))


LAYERS: Final[dict[type[Head], type[HeadLayer]]] = {
    LinearHead: LinearLayer,
    KernelHead: KernelLayer,
    NeighbourHead: NeighbourLayer,
}
"""One row a head; a subclass with another activation needs its own."""


def layer_of(head: Head) -> HeadLayer:
    """Return a head as a layer.

    Raises:
        ExportError: If nobody has written one for its type.
    """
    if type(head) not in LAYERS:
        known = ", ".join(row.kind for row in LAYERS)
        raise ExportError(
            f"A head must be one of {known} to be exported, got {head.kind!r}. "
            "Predict with this package."
        )
    return LAYERS[type(head)](head)
