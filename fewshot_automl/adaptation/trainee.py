"""What the training loop trains: an encoder's end with a head, batches in, rows out."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fewshot_automl.adaptation.heads import LinearHead
from fewshot_automl.adaptation.lora import dropouts
from fewshot_automl.adaptation.rows import parts_by_length
from fewshot_automl.backbones.backbone import Backbone, Tensors


class ScaledLinear(nn.Module):
    """A linear head in torch, acting on scaled features as `LinearHead` does."""

    def __init__(self, head: LinearHead) -> None:
        super().__init__()
        self._origin = head
        self.register_buffer("center", torch.from_numpy(head.scaling.center.copy()))
        self.register_buffer("scale", torch.from_numpy(head.scaling.scale.copy()))
        self.weight = nn.Parameter(torch.from_numpy(head.weight.copy()))
        self.bias = nn.Parameter(torch.from_numpy(head.bias.copy()))

    def forward(self, features: Float[Tensor, "batch width"]) -> Tensor:
        """Return logits."""
        if self._origin.scaling.unit:
            features = nn.functional.normalize(features, dim=-1)
        scaled = (features - self.get_buffer("center")) / self.get_buffer("scale")
        return scaled @ self.weight + self.bias

    def to_head(self) -> LinearHead:
        """Return the head in numpy."""
        weight, bias = (p.detach().float().cpu() for p in (self.weight, self.bias))
        return replace(
            self._origin, weight=weight.numpy().copy(), bias=bias.numpy().copy()
        )


class Trainee(nn.Module):
    """What the training loop sees: batches in, logits or embeddings out.

    The encoder's own dropout stays off. It costs random numbers and the fused
    attention kernel, a few dozen examples gain nothing by it (decision 0009), and a
    batch gives the same rows however it is padded or cut.
    """

    def __init__(
        self,
        fork: Backbone,
        start: int,
        head: ScaledLinear | None,
        *,
        saves_padding: bool,
    ) -> None:
        """Take what is trained.

        Args:
            fork: The encoder; what of it requires a gradient is trained.
            start: First block to run, -1 for the whole encoder.
            head: Put on the features; None leaves them as they are.
            saves_padding: Runs short and long rows of a batch apart. On a CPU that
                saves arithmetic; on a GPU it would cost more in starting kernels.
        """
        super().__init__()
        self.encoder = fork.module
        self.head = head
        self._fork = fork
        self._start = start
        self._saves_padding = saves_padding

    def train(self, mode: bool = True) -> "Trainee":
        """Switch the dropout before LoRA layers, and nothing else."""
        super().train(mode)
        self.encoder.eval()
        for dropout in dropouts(self.encoder):
            dropout.train(mode)
        return self

    def forward(self, batch: Tensors) -> Tensor:
        """Return logits, or embeddings where there is no head."""
        parts = parts_by_length(batch) if self._saves_padding else [(None, batch)]
        made = [self._encode(part) for _, part in parts]
        places = [index for index, _ in parts if index is not None]
        features = torch.cat(made)[torch.cat(places).argsort()] if places else made[0]
        return features if self.head is None else self.head(features)

    def _encode(self, batch: Tensors) -> Tensor:
        if self._start < 0:
            return self._fork.features(batch)
        return self._fork.tail(batch, self._start)
