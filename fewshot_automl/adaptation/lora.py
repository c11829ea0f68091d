"""LoRA layers by peft: put into a backbone, written and read as a standard adapter."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fewshot_automl.backbones.backbone import Backbone
from fewshot_automl.errors import ExportError, TrialError

ADAPTER_NAME: Final = "default"
PREFIX: Final = "base_model.model."
"""What `PeftModel.from_pretrained` expects before every name."""


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
        """Take a LoRA layer of peft and the share of its inputs dropped, in [0, 1)."""
        super().__init__()
        down = layer.lora_A[ADAPTER_NAME]
        is_convolution = isinstance(down, nn.Conv2d)
        self.share = share
        self.width = down.in_channels if is_convolution else down.in_features
        self.axis = 1 if is_convolution else -1
        self.scaling = float(layer.scaling[ADAPTER_NAME])
        self.mask: Tensor | None = None

    def draw(self, rows: int) -> Tensor:
        """Return multipliers for the channels of some rows, drawn by torch."""
        if self.share == 0:
            return torch.ones((rows, self.width))
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
    from peft import inject_adapter_in_model

    targets = backbone.lora_targets(cut)
    if not targets:
        raise TrialError(
            f"Backbone {backbone.card.id!r} has no layer for LoRA from block {cut} on. "
            "Use a smaller frozen fraction, or partial_freeze."
        )
    inject_adapter_in_model(
        _peft_config(settings, targets), backbone.module, adapter_name=ADAPTER_NAME
    )
    for name, parameter in backbone.module.named_parameters():
        parameter.requires_grad_("lora_" in name)
    for name in targets:
        layer: Any = backbone.module.get_submodule(name)
        layer.lora_dropout[ADAPTER_NAME] = RowDropout(layer, settings.dropout)
    return Adapter(base=base, settings=settings, targets=targets, cut=cut)


def without_scaling(module: nn.Module) -> None:
    """Let LoRA layers add their update as it is; somebody else scales it."""
    for layer in module.modules():
        if isinstance(getattr(layer, "scaling", None), dict):
            layer.scaling[ADAPTER_NAME] = 1.0  # type: ignore[index, operator]


def save_adapter(module: nn.Module, adapter: Adapter, folder: Path) -> None:
    """Write the LoRA weights as peft does, so that peft alone can read them."""
    from peft import get_peft_model_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    config = _peft_config(adapter.settings, adapter.targets)
    config.inference_mode = True
    config.save_pretrained(str(folder))
    state = get_peft_model_state_dict(module, adapter_name=ADAPTER_NAME)
    save_file(
        {PREFIX + name: value.contiguous().cpu() for name, value in state.items()},
        folder / "adapter_model.safetensors",
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
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict

    config = LoraConfig.from_pretrained(str(folder))
    config.inference_mode = True
    backbone = base.fork(cut)
    module = backbone.module
    inject_adapter_in_model(config, module, adapter_name=ADAPTER_NAME)
    state = load_file(folder / "adapter_model.safetensors")
    result = set_peft_model_state_dict(
        module,
        {name.removeprefix(PREFIX): value for name, value in state.items()},
        adapter_name=ADAPTER_NAME,
    )
    missing = [name for name in result.missing_keys if "lora_" in name]
    if missing or result.unexpected_keys:
        raise ExportError(
            f"Adapter in {folder} must fit its backbone; missing {missing[:3]}, "
            f"unexpected {list(result.unexpected_keys)[:3]}. Export the model again."
        )
    module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    settings = LoraSettings(
        rank=config.r, alpha=config.lora_alpha, dropout=config.lora_dropout
    )
    targets = tuple(config.target_modules)
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


def _peft_config(settings: LoraSettings, targets: tuple[str, ...]) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=sorted(targets),
        bias="none",
    )
