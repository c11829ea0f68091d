"""What a method with a backbone leaves behind: an encoder and a head."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, Float32
from safetensors.numpy import load_file, save_file
from torch import nn

from fewshot_automl.adaptation.encodings import Encodings, on_device
from fewshot_automl.adaptation.heads import Head
from fewshot_automl.adaptation.kinds import head_from_state
from fewshot_automl.adaptation.lora import Adapter, load_adapter, save_adapter
from fewshot_automl.backbones.backbone import Backbone, Tensors
from fewshot_automl.backbones.load import load_saved
from fewshot_automl.training.placement import choose_placement

BATCH: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """A backbone, perhaps changed from some block on, under a fitted head."""

    backbone: Backbone
    """The encoder with its changes."""
    head: Head
    """From features to outputs."""
    start: int | None = None
    """First changed block; -1 if everything changed; None if nothing did, or if the
    encodings already come from this very backbone (after loading)."""
    adapter: Adapter | None = None
    """LoRA layers inside the backbone, with the unchanged backbone under them."""
    device: str = "cpu"
    """Where the backbone is."""

    @property
    def is_finite(self) -> bool:
        """Return whether every number in the head and the changed blocks is finite."""
        trained: Iterable[nn.Parameter] = ()
        if self.start is not None:
            trained = (
                self.backbone.module.parameters()
                if self.start < 0
                else self.backbone.tail_parameters(self.start)
            )
        return all(
            bool(np.isfinite(array).all()) for array in self.head.arrays().values()
        ) and all(bool(parameter.isfinite().all()) for parameter in trained)

    def features(self, encodings: Encodings) -> Float32[np.ndarray, "examples width"]:
        """Return the feature vectors the head is given."""
        if self.start is None:
            return encodings.pooled()
        if self.start < 0:
            return self._forward(encodings.rows(), self.backbone.features)
        start = self.start
        return self._forward(
            encodings.activations(start), lambda batch: self.backbone.tail(batch, start)
        )

    def outputs(self, encodings: Encodings) -> Float[np.ndarray, "examples outputs"]:
        """Return what the head predicts."""
        return self.head.outputs(self.features(encodings))

    def save(self, folder: Path) -> dict[str, Any]:
        """Write backbone, adapter and head: a folder that needs no zoo."""
        if self.adapter is None:
            self.backbone.save(folder / "backbone")
        else:
            self.adapter.base.save(folder / "backbone")
            save_adapter(self.backbone.module, folder / "adapter")
        arrays = {k: np.ascontiguousarray(v) for k, v in self.head.arrays().items()}
        save_file(arrays, folder / "head.safetensors")
        cut = None if self.adapter is None else self.adapter.cut
        return {"head": self.head.kind, "adapter_cut": cut}

    @classmethod
    def load(cls, folder: Path, state: dict[str, Any]) -> "Adapted":
        """Return what `save` wrote; its encodings come from its own backbone."""
        device = choose_placement().device
        backbone: Backbone = load_saved(folder / "backbone").to(device)
        adapter = None
        if state["adapter_cut"] is not None:
            backbone, adapter = load_adapter(
                backbone, folder / "adapter", state["adapter_cut"]
            )
        head = head_from_state(state["head"], load_file(folder / "head.safetensors"))
        return cls(backbone=backbone, head=head, adapter=adapter, device=device)

    def _forward(
        self, rows: list[Tensors], run: Callable[[Tensors], torch.Tensor]
    ) -> Float32[np.ndarray, "examples width"]:
        """Run in batches of similar length, and put the rows back in order."""
        order = sorted(range(len(rows)), key=lambda i: _length(rows[i]))
        out = np.empty((len(rows), self.backbone.width), dtype=np.float32)
        for begin in range(0, len(order), BATCH):
            chosen = order[begin : begin + BATCH]
            batch = self.backbone.collate([rows[i] for i in chosen])
            with torch.no_grad():
                pooled = run(on_device(batch, self.device))
            out[chosen] = pooled.float().cpu().numpy()
        return out


def _length(row: Tensors) -> int:
    return max(value.numel() for value in row.values())
