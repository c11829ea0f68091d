"""Layers with a low-rank update, named as peft names them.

peft itself is not imported: it brings in transformers, torchvision and torch's
compiler, which costs as much as a LoRA trial. What it does for a linear or a
convolution is a few lines, and a test has it read the adapters we write.
"""

from typing import Any, Final

import torch
from torch import Tensor, nn

from fewshot_automl.errors import TrialError

ADAPTER_NAME: Final = "default"


class LoraLayer(nn.Module):
    """Stands in the place of a layer and adds a low-rank update to what it gives.

    Source:
        Hu et al., LoRA, ICLR 2022, sec. 4.1; for convolutions as in peft.
    """

    def __init__(self, base: nn.Module, rank: int, alpha: float) -> None:
        """Wrap a layer; the update is 0 until its up-projection is trained.

        Args:
            base: The layer, left as it is.
            rank: Of the update.
            alpha: The update is scaled by alpha / rank.

        Raises:
            TrialError: If it is neither a linear layer nor a plain convolution.
        """
        super().__init__()
        self.base_layer = base
        down, up = _projections(base, rank)
        nn.init.zeros_(up.weight)  # type: ignore[arg-type]
        self.lora_A = nn.ModuleDict({ADAPTER_NAME: down})
        self.lora_B = nn.ModuleDict({ADAPTER_NAME: up})
        self.lora_dropout = nn.ModuleDict({ADAPTER_NAME: nn.Identity()})
        self.scaling = {ADAPTER_NAME: alpha / rank}

    def forward(self, hidden: Tensor) -> Tensor:
        """Run the layer and add the update."""
        out: Tensor = self.base_layer(hidden)
        dropped = self.lora_dropout[ADAPTER_NAME](hidden)
        update: Tensor = self.lora_B[ADAPTER_NAME](self.lora_A[ADAPTER_NAME](dropped))
        return out + update * self.scaling[ADAPTER_NAME]

    @property
    def weight(self) -> Any:
        """Return the weight of the layer, which some networks look at."""
        return self.base_layer.weight

    @property
    def bias(self) -> Any:
        """Return the bias of the layer."""
        return self.base_layer.bias


def _projections(base: nn.Module, rank: int) -> tuple[nn.Module, nn.Module]:
    if isinstance(base, nn.Linear):
        options: dict[str, Any] = {
            "bias": False,
            "device": base.weight.device,
            "dtype": base.weight.dtype,
        }
        return (
            nn.Linear(base.in_features, rank, **options),
            nn.Linear(rank, base.out_features, **options),
        )
    if (
        isinstance(base, nn.Conv2d)
        and base.groups == 1
        and base.padding_mode == "zeros"
    ):
        options = {
            "bias": False,
            "device": base.weight.device,
            "dtype": base.weight.dtype,
        }
        down = nn.Conv2d(
            base.in_channels,
            rank,
            base.kernel_size,  # type: ignore[arg-type]
            base.stride,  # type: ignore[arg-type]
            base.padding,  # type: ignore[arg-type]
            base.dilation,  # type: ignore[arg-type]
            **options,
        )
        return down, nn.Conv2d(rank, base.out_channels, 1, **options)
    raise TrialError(
        f"LoRA must be put on linear layers or ungrouped convolutions, got "
        f"{type(base).__name__}. Correct lora_targets of the card."
    )


def wrap(module: nn.Module, name: str, rank: int, alpha: float) -> LoraLayer:
    """Put a `LoraLayer` in the place of one layer of a network, and return it.

    Raises:
        TrialError: If the layer cannot have one.
    """
    path, _, leaf = name.rpartition(".")
    layer = LoraLayer(module.get_submodule(name), rank, alpha)
    layer.train(module.training)
    setattr(module.get_submodule(path), leaf, layer)
    return layer


def update_state(module: nn.Module) -> dict[str, Tensor]:
    """Return the weights of all updates by the names they have in peft's files."""
    return {
        name.replace(f".{ADAPTER_NAME}.", "."): tensor
        for name, tensor in module.state_dict().items()
        if ".lora_A." in name or ".lora_B." in name
    }


def load_update(module: nn.Module, state: dict[str, Tensor]) -> list[str]:
    """Fill the updates and return what does not fit, by name.

    Args:
        module: With `LoraLayer`s in it.
        state: As `update_state` returns it.
    """
    places = update_state(module)
    strange = sorted(places.keys() ^ state.keys())
    with torch.no_grad():
        for name in places.keys() & state.keys():
            if places[name].shape == state[name].shape:
                places[name].copy_(state[name])
            else:
                strange.append(name)
    return strange
