"""LoRA layers by peft: put into a backbone, written and read as peft's adapters."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from fewshot_automl.backbones.backbone import Backbone
from fewshot_automl.errors import ExportError, TrialError
from fewshot_automl.space import Config

VARIANTS: Final = ("lora", "rslora", "dora")
"""Plain; scaled by the root of the rank (Kalajdzievski, arXiv:2312.03732); with the
length of each row of a weight trained apart (Liu et al., ICML 2024)."""
PREFIX: Final = "base_model.model."
"""What `PeftModel.from_pretrained` expects before every name."""
WEIGHTS_FILE: Final = "adapter_model.safetensors"


def attach(base: Backbone, cut: int, config: Config, seed: int) -> Backbone:
    """Return a fork with LoRA layers from block `cut` on; only they need gradients.

    The update is scaled by alpha / rank, of ``rslora`` by alpha / sqrt(rank). The seed
    decides the down-projections; the up-projections are 0.

    Source:
        Hu et al., LoRA, ICLR 2022, sec. 4.1.
    """
    backbone = base.fork(base.depth)  # LoRA changes no weight, so it owns none
    rank = int(config["rank"])
    variant = config.get("lora_variant", VARIANTS[0])
    targets = backbone.lora_targets(cut)
    if not targets:
        raise TrialError(
            f"Backbone {backbone.card.id!r} has no layer for LoRA from block {cut} on. "
            "Use a smaller frozen fraction, or partial_freeze."
        )
    with _peft() as peft, torch.random.fork_rng(devices=[]):
        shape = peft.LoraConfig(
            r=rank,
            lora_alpha=rank * config.number("alpha_ratio"),
            lora_dropout=config.number("lora_dropout"),
            use_rslora=variant == "rslora",
            use_dora=variant == "dora",
            target_modules=list(targets),
            bias="none",
        )
        try:
            peft.inject_adapter_in_model(shape, backbone.module)
        except ValueError as error:
            raise TrialError(
                f"LoRA must be put on layers that peft knows, got {error}. Correct "
                f"lora_targets of the card {backbone.card.id!r}."
            ) from error
        torch.manual_seed(seed)
        for name, parameter in backbone.module.named_parameters():
            if ".lora_A." in name:
                # Of variance 1 / inputs. peft draws a third of it, which learns less
                # in few steps: trec6, 8 a class, MiniLM-L6, 3 draws: 0.69 for 0.72.
                nn.init.kaiming_uniform_(parameter, a=1)
    return backbone


def save_adapter(module: nn.Module, folder: Path) -> None:
    """Write LoRA layers as peft does, so that peft alone can read them."""
    with _peft() as peft:
        state = peft.get_peft_model_state_dict(module, save_embedding_layers=False)
        configs: Any = module.peft_config
        configs["default"].save_pretrained(folder)
    named = {PREFIX + name: value.contiguous().cpu() for name, value in state.items()}
    save_file(named, folder / WEIGHTS_FILE)


def load_adapter(base: Backbone, folder: Path) -> Backbone:
    """Return a fork of a backbone with a saved adapter in it.

    The base stays as it is, so that the model can be saved again.
    """
    backbone = base.fork(base.depth)
    module = backbone.module
    state = load_file(folder / WEIGHTS_FILE)
    with _peft() as peft:
        config = peft.LoraConfig.from_pretrained(str(folder))
        peft.inject_adapter_in_model(config, module)
        found = peft.set_peft_model_state_dict(
            module, {name.removeprefix(PREFIX): value for name, value in state.items()}
        )
    # Files are as they were written; another version of peft might name them otherwise.
    absent = [name for name in found.missing_keys if "lora_" in name]
    if strange := [*found.unexpected_keys, *absent]:
        raise ExportError(
            f"Adapter in {folder} must fit its backbone, got other tensors: "
            f"{', '.join(strange[:3])}. Export the model again."
        )
    module.eval().requires_grad_(False)
    return backbone


def merged(backbone: Backbone) -> Backbone:
    """Return a twin that owns all its weights, with LoRA layers merged into them.

    Its layers are those of the library again; without LoRA layers it is a copy.
    """
    twin = backbone.fork(-1)
    layers = {
        name: layer
        for name, layer in twin.module.named_modules()
        if hasattr(layer, "get_base_layer") and hasattr(layer, "merge")
    }
    for name, layer in layers.items():
        layer.merge(safe_merge=True)
        twin.module.set_submodule(name, layer.get_base_layer())
    return twin


def dropouts(module: nn.Module) -> list[nn.Module]:
    """Return the dropout layers before the updates."""
    return [m for name, m in module.named_modules() if ".lora_dropout." in name]


def update_numbers(layer: nn.Module) -> tuple[int, int]:
    """Return how many numbers an update of a layer holds a rank, and DoRA besides.

    >>> update_numbers(nn.Linear(3, 5))
    (8, 5)
    """
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    outputs = weight.shape[0]
    return weight[0].numel() + outputs, outputs


@contextlib.contextmanager
def _peft() -> Iterator[Any]:
    """Give peft, which takes three seconds to import, without its warnings.

    It asks transformers by names that transformers is giving up.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import peft

        yield peft
