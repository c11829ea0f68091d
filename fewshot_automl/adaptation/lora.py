"""LoRA layers: put into a backbone, written and read as an adapter of peft."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fewshot_automl.adaptation.lora_layers import (
    ADAPTER_NAME,
    load_update,
    update_state,
    wrap,
)
from fewshot_automl.backbones.backbone import Backbone
from fewshot_automl.errors import ExportError, TrialError

PREFIX: Final = "base_model.model."
"""What `PeftModel.from_pretrained` expects before every name."""
CONFIG_FILE: Final = "adapter_config.json"
WEIGHTS_FILE: Final = "adapter_model.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSettings:
    """Shape of the LoRA layers.

    Source:
        Hu et al., LoRA, ICLR 2022, sec. 4.1.
    """

    rank: int
    """Rank of the update, 1 to 64."""
    alpha: float
    """The update is scaled by alpha / rank."""
    dropout: float
    """Dropout before the update, in [0, 1)."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 1 <= self.rank <= 64:
            raise TrialError(
                f"LoRA rank must be from 1 to 64, got {self.rank}. Use 8 or 16."
            )
        if not 0 <= self.dropout < 1:
            raise TrialError(
                f"LoRA dropout must be in [0, 1), got {self.dropout}. Use 0 or 0.1."
            )


class RowDropout(nn.Module):
    """Drops whole channels of an example: the same ones at each of its positions.

    The mask is drawn before a batch is run and belongs to its rows, so it does not
    depend on how a batch is padded, cut or put together with others.

    Source:
        Gal and Ghahramani, NeurIPS 2016 (one mask for all positions).
    """

    def __init__(self, layer: Any, share: float) -> None:
        """Take a LoRA layer and the share of its inputs dropped, in [0, 1)."""
        super().__init__()
        down = layer.lora_A[ADAPTER_NAME]
        is_convolution = isinstance(down, nn.Conv2d)
        self.share = share
        self.width = down.in_channels if is_convolution else down.in_features
        self.axis = 1 if is_convolution else -1
        self.scaling = float(layer.scaling[ADAPTER_NAME])
        self.mask: Tensor | None = None

    def draw(self, rows: int) -> Tensor:
        """Return multipliers for the channels of some rows, drawn by torch.

        One column stands for all channels where nothing is dropped.
        """
        if self.share == 0:
            return torch.ones((rows, 1))
        kept = torch.rand((rows, self.width)) >= self.share
        return kept.float() / (1 - self.share)

    def forward(self, hidden: Tensor) -> Tensor:
        """Multiply by the mask in training; return the input otherwise."""
        if not self.training or self.mask is None:
            return hidden
        mask = self.mask.to(hidden)
        if hidden.shape[0] != mask.shape[0]:  # cut into windows on the way
            mask = mask.repeat_interleave(hidden.shape[0] // mask.shape[0], dim=0)
        shape = [1] * hidden.ndim
        shape[0], shape[self.axis] = mask.shape
        return hidden * mask.view(shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """LoRA layers that stand inside a backbone's module."""

    base: Backbone
    """The backbone without them."""
    settings: LoraSettings
    targets: tuple[str, ...]
    """Full names of the layers they adapt."""
    cut: int
    """First block with such layers."""


def attach(
    backbone: Backbone, base: Backbone, cut: int, settings: LoraSettings
) -> Adapter:
    """Put LoRA layers into `backbone` from block `cut` on; only they need gradients.

    Args:
        backbone: A fork, changed in place.
        base: The backbone it was forked from.
        cut: First block to adapt.
        settings: Shape of the layers.

    Raises:
        TrialError: If no layer after the cut can take LoRA.
    """
    targets = backbone.lora_targets(cut)
    if not targets:
        raise TrialError(
            f"Backbone {backbone.card.id!r} has no layer for LoRA from block {cut} on. "
            "Use a smaller frozen fraction, or partial_freeze."
        )
    backbone.module.requires_grad_(False)
    for name in targets:
        layer = wrap(backbone.module, name, settings.rank, settings.alpha)
        layer.lora_dropout[ADAPTER_NAME] = RowDropout(layer, settings.dropout)
    return Adapter(base=base, settings=settings, targets=targets, cut=cut)


def without_scaling(module: nn.Module) -> None:
    """Let LoRA layers add their update as it is; somebody else scales it."""
    for layer in module.modules():
        if isinstance(getattr(layer, "scaling", None), dict):
            layer.scaling[ADAPTER_NAME] = 1.0  # type: ignore[index, operator]


def save_adapter(module: nn.Module, adapter: Adapter, folder: Path) -> None:
    """Write the LoRA weights as peft does, so that peft alone can read them."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": adapter.settings.rank,
        "lora_alpha": adapter.settings.alpha,
        "lora_dropout": adapter.settings.dropout,
        "target_modules": sorted(adapter.targets),
        "bias": "none",
    }
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2), encoding="utf-8")
    save_file(
        {
            PREFIX + name: value.contiguous().cpu()
            for name, value in update_state(module).items()
        },
        folder / WEIGHTS_FILE,
    )


def load_adapter(base: Backbone, folder: Path, cut: int) -> tuple[Backbone, Adapter]:
    """Return a fork of a backbone with a saved adapter in it, and the adapter.

    Args:
        base: The backbone the adapter was trained on; left as it is, so that the
            model can be saved again.
        folder: What `save_adapter` wrote.
        cut: First adapted block.

    Raises:
        ExportError: If the adapter does not fit the backbone.
    """
    settings, targets = _read_config(folder / CONFIG_FILE)
    backbone = base.fork(cut)
    module = backbone.module
    if absent := set(targets) - {name for name, _ in module.named_modules()}:
        raise ExportError(
            f"Adapter in {folder} must fit its backbone, got layers that it lacks: "
            f"{', '.join(sorted(absent)[:3])}. Export the model again."
        )
    for name in targets:
        wrap(module, name, settings.rank, settings.alpha)
    state = load_file(folder / WEIGHTS_FILE)
    strange = load_update(
        module, {name.removeprefix(PREFIX): value for name, value in state.items()}
    )
    if strange:
        raise ExportError(
            f"Adapter in {folder} must fit its backbone, got other tensors or shapes "
            f"for {', '.join(strange[:3])}. Export the model again."
        )
    module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return backbone, Adapter(base=base, settings=settings, targets=targets, cut=cut)


def lora_seed(module: nn.Module, seed: int) -> None:
    """Draw the LoRA down-projections anew from a seed (the up-projections are 0)."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if "lora_A" in name:
            bound = (3.0 / parameter[0].numel()) ** 0.5
            drawn = torch.empty(parameter.shape).uniform_(
                -bound, bound, generator=generator
            )
            parameter.data.copy_(drawn)


def _read_config(path: Path) -> tuple[LoraSettings, tuple[str, ...]]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        settings = LoraSettings(
            rank=int(config["r"]),
            alpha=float(config["lora_alpha"]),
            dropout=float(config["lora_dropout"]),
        )
        return settings, tuple(config["target_modules"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"{path} must be the configuration of a LoRA adapter, got "
            f"{type(error).__name__}: {error}. Export the model again."
        ) from error
