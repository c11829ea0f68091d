"""What a method with a backbone leaves behind: an encoder and a head."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float32
from safetensors.numpy import load_file, save_file
from torch import nn

from fewshot_automl.adaptation.encodings import Encodings, on_device
from fewshot_automl.adaptation.heads import Head, Outputs
from fewshot_automl.adaptation.kinds import head_from_state
from fewshot_automl.adaptation.lora import load_adapter, save_adapter
from fewshot_automl.backbones.backbone import Backbone, Tensors
from fewshot_automl.backbones.load import load_saved
from fewshot_automl.training import choose_placement
from fewshot_automl.training.memory import weights_room

BATCH: Final = 64
BACKBONE: Final = "backbone"
"""Folder of the encoder in that of a model."""


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
    base: Backbone | None = None
    """The backbone without the LoRA layers, if it has such."""
    device: str = "cpu"
    """Where the backbone is."""
    is_whole: bool = False
    """Whether an unchanged backbone reads all of a long text, in windows."""
    blocks: str = "last"
    """Which of `encodings.BLOCKS` of an unchanged backbone the head reads."""

    @property
    def is_finite(self) -> bool:
        """Return whether every number in the head and the changed blocks is finite."""
        trained: Iterable[nn.Parameter] = ()
        if self.start is not None:
            trained = trained_parameters(self.backbone, self.start)
        return self.head.is_finite and all(bool(p.isfinite().all()) for p in trained)

    def outputs(self, encodings: Encodings) -> Outputs:
        """Return what the head predicts."""
        if self.start is None:
            features = encodings.pooled(whole=self.is_whole, blocks=self.blocks)
            return self.head.outputs(features)
        return self.head.outputs(
            changed_features(self.backbone, self.start, encodings, self.device)
        )

    def save(self, folder: Path) -> dict[str, Any]:
        """Write backbone, adapter and head: a folder that needs no zoo."""
        (self.base or self.backbone).save(folder / BACKBONE)
        return self.save_head(folder)

    def save_head(self, folder: Path) -> dict[str, Any]:
        """Write all but the backbone, which another model may have written."""
        if self.base is not None:
            save_adapter(self.backbone.module, folder / "adapter")
        arrays = {k: np.ascontiguousarray(v) for k, v in self.head.arrays().items()}
        save_file(arrays, folder / "head.safetensors")
        reads = {"is_whole": self.is_whole, "blocks": self.blocks}
        return {"head": self.head.kind, **reads}

    @classmethod
    def load(
        cls, folder: Path, state: dict[str, Any], backbone: Backbone | None = None
    ) -> "Adapted":
        """Return what `save` wrote; its encodings come from its own backbone.

        One that another model has loaded already is shared with it.
        """
        device = choose_placement().device
        if backbone is None:
            backbone = load_saved(
                folder / BACKBONE, device=device, most_bytes=weights_room(device)
            )
        base, adapter = None, folder / "adapter"
        if adapter.is_dir():
            base, backbone = backbone, load_adapter(backbone, adapter)
        head = head_from_state(state["head"], load_file(folder / "head.safetensors"))
        return cls(
            backbone=backbone,
            head=head,
            base=base,
            device=device,
            is_whole=state.get("is_whole", False),
            blocks=state.get("blocks", "last"),
        )


def trained_parameters(backbone: Backbone, start: int) -> Iterable[nn.Parameter]:
    """Return the parameters from a block on, of the whole backbone for -1."""
    if start < 0:
        return backbone.module.parameters()
    return backbone.tail_parameters(start)


def changed_features(
    backbone: Backbone, start: int, encodings: Encodings, device: str
) -> Float32[np.ndarray, "examples width"]:
    """Return the features of a backbone that was changed from block `start` on.

    It runs in batches of similar length on activations of the unchanged one.
    """
    rows = encodings.rows() if start < 0 else encodings.activations(start)
    run: Callable[[Tensors], torch.Tensor] = backbone.features
    if start >= 0:
        run = partial(backbone.tail, cut=start)
    lengths = [max(map(torch.numel, row.values())) for row in rows]
    order = sorted(range(len(rows)), key=lengths.__getitem__)
    out = np.empty((len(rows), backbone.width), dtype=np.float32)
    for begin in range(0, len(order), BATCH):
        chosen = order[begin : begin + BATCH]
        batch = backbone.collate([rows[i] for i in chosen])
        with torch.no_grad():
            pooled = run(on_device(batch, device))
        out[chosen] = pooled.float().cpu().numpy()
    return out
