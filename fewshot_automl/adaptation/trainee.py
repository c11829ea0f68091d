"""What the training loop trains: an encoder's end with a head, batches in, rows out."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from fewshot_automl.adaptation.heads import LinearHead, Scaling
from fewshot_automl.adaptation.lora import RowDropout, without_scaling
from fewshot_automl.adaptation.rows import batch_lengths, length_groups, part_of
from fewshot_automl.backbones.backbone import Backbone, Tensors


class ScaledLinear(nn.Module):
    """A linear head in torch, acting on scaled features as `LinearHead` does."""

    def __init__(self, head: LinearHead) -> None:
        super().__init__()
        self.unit = head.scaling.unit
        self.register_buffer("center", torch.from_numpy(head.scaling.center.copy()))
        self.register_buffer("scale", torch.from_numpy(head.scaling.scale.copy()))
        self.weight = nn.Parameter(torch.from_numpy(head.weight.copy()))
        self.bias = nn.Parameter(torch.from_numpy(head.bias.copy()))

    def forward(self, features: Float[Tensor, "batch width"]) -> Tensor:
        """Return logits."""
        if self.unit:
            features = nn.functional.normalize(features, dim=-1)
        scaled = (features - self.get_buffer("center")) / self.get_buffer("scale")
        return scaled @ self.weight + self.bias

    def to_head(self) -> LinearHead:
        """Return the head in numpy."""

        def array(value: Tensor) -> np.ndarray:
            copied: np.ndarray = value.detach().float().cpu().numpy().copy()
            return copied

        scaling = Scaling(
            unit=self.unit,
            center=array(self.get_buffer("center")),
            scale=array(self.get_buffer("scale")),
        )
        return LinearHead(
            scaling=scaling, weight=array(self.weight), bias=array(self.bias)
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
        self.saves_padding = saves_padding
        self._given: list[Tensor] | None = None
        self._dropouts = [
            m for m in self.encoder.modules() if isinstance(m, RowDropout)
        ]

    def train(self, mode: bool = True) -> "Trainee":
        """Switch the dropout before LoRA layers, and nothing else."""
        super().train(mode)
        self.encoder.eval()
        for dropout in self._dropouts:
            dropout.train(mode)
        return self

    def multipliers(self, rows: int) -> list[Tensor]:
        """Draw what a skeleton's LoRA layers multiply their inputs with for this one.

        That is the dropout of a batch, as it would be drawn alone, times the scale of
        the update, which differs from one member of a cohort to the next.
        """
        return [layer.draw(rows) * layer.scaling for layer in self._dropouts]

    def use(self, multipliers: Sequence[Tensor]) -> None:
        """Multiply by these in the next batch instead of drawing a dropout."""
        self._given = list(multipliers)

    def become_skeleton(self) -> "Trainee":
        """Prepare to run the weights of many; the order of rows must be kept."""
        self.saves_padding = False
        without_scaling(self.encoder)
        return self

    def forward(self, batch: Tensors) -> Tensor:
        """Return logits, or embeddings where there is no head."""
        count = len(next(iter(batch.values())))
        masks: list[Tensor] = []
        if self._given is not None:
            masks, self._given = self._given, None
        elif self.training and any(layer.share for layer in self._dropouts):
            masks = [layer.draw(count) for layer in self._dropouts]
        lengths = batch_lengths(batch) if self.saves_padding else None
        groups = [] if lengths is None else length_groups(lengths)
        if lengths is None or len(groups) < 2:
            features = self._encode(batch, masks)
        else:
            made = []
            for group in groups:
                part = part_of(batch, group, int(lengths[group].max()))
                made.append(self._encode(part, [mask[group] for mask in masks]))
            back = torch.from_numpy(np.argsort(np.concatenate(groups)))
            features = torch.cat(made)[back.to(made[0].device)]
        return features if self.head is None else self.head(features)

    def _encode(self, batch: Tensors, masks: Sequence[Tensor]) -> Tensor:
        for at, dropout in enumerate(self._dropouts):
            dropout.mask = masks[at] if masks else None
        if self._start < 0:
            return self._fork.features(batch)
        return self._fork.tail(batch, self._start)
