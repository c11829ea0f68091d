"""Image encoders of timm, cut at their residual blocks.

A block is one residual block, also in networks built of stages. So the depth of
EfficientNet-Lite0 is 16, of ResNet-18 it is 8, and of a vision transformer it is what
everybody says.

A card's `config` holds keyword arguments of timm's architecture, and two of our own:

* ``last_stride = 1``: TinyViT's last downsampling keeps the resolution (the
  variants distilled from SAM).
* ``head_norm = false``: no norm after pooling, for weights that come without one.
"""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MethodType
from typing import Any

import timm
from timm.models.tiny_vit import Attention as TinyVitAttention
from timm.models.tiny_vit import TinyVitBlock
from torch import Tensor, nn

from fewshot_automl.backbones.backbone import Anatomy, Tensors
from fewshot_automl.backbones.card import Card, ImageInput
from fewshot_automl.errors import CardError, unknown_name

Parts = tuple[str, ...]


def _in_turn(module: Any, hidden: Tensor, parts: Parts) -> Tensor:
    for part in parts:
        hidden = module.get_submodule(part)(hidden)
    return hidden


def _tiny_vit_step(
    module: Any, hidden: Tensor, context: Any, parts: Parts, index: int
) -> Tensor:
    for part in parts:
        layer = module.get_submodule(part)
        if isinstance(layer, TinyVitBlock):  # channels last inside the stage only
            hidden = layer(hidden.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        else:
            hidden = layer(hidden)
    return hidden


def _vit_begin(module: Any, pixels: Tensor) -> Tensor:
    hidden = module.patch_drop(module._pos_embed(module.patch_embed(pixels)))
    out: Tensor = module.norm_pre(hidden)
    return out


def _eva_begin(module: Any, pixels: Tensor) -> Tensor:
    out: Tensor = module.norm_pre(module._pos_embed(module.patch_embed(pixels))[0])
    return out


def _eva_context(module: Any, size: int) -> Any:
    if module.rope is None:
        return None
    if module.dynamic_img_size:
        grid = module.patch_embed.dynamic_feat_size((size, size))
        return module.rope.get_embed(shape=grid)
    if hasattr(module.rope, "feat_shape"):
        return module.rope.get_embed()
    return module.rope.get_embed(shape=module.patch_embed.grid_size)


def _eva_step(
    module: Any, hidden: Tensor, context: Any, parts: Parts, index: int
) -> Tensor:
    is_mixed = context is not None and getattr(module, "rope_mixed", False)
    rope = context[index] if is_mixed else context
    out: Tensor = module.get_submodule(parts[0])(hidden, rope=rope)
    return out


def _vit_finish(module: Any, hidden: Tensor, pooling: str) -> Tensor:
    pooled = module.pool(module.norm(hidden), pool_type=pooling)
    out: Tensor = module.head_drop(module.fc_norm(pooled))
    return out


def _head_after(*parts: str) -> Callable[[Any, Tensor, str], Tensor]:
    """Return what runs some last layers and timm's head without its classifier."""

    def finish(module: Any, hidden: Tensor, pooling: str) -> Tensor:
        hidden = _in_turn(module, hidden, parts)
        out: Tensor = module.forward_head(hidden, pre_logits=True)
        return out

    return finish


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """How one class of timm models is run in pieces."""

    before: Parts
    """What runs before the first block; in this order, if there is no `begin`."""
    blocks: str
    """Pattern of the blocks' names."""
    finish: Callable[[Any, Tensor, str], Tensor]
    """From module, last block's output and the card's pooling to vectors."""
    poolings: tuple[str, ...] = ("avg",)
    """What a card may ask for."""
    begin: Callable[[Any, Tensor], Tensor] | None = None
    """From pixels to what the first block takes."""
    context: Callable[[Any, int], Any] = lambda module, size: None
    """From module and image size to what all blocks take besides hidden states."""
    step: Callable[[Any, Tensor, Any, Parts, int], Tensor] = (
        lambda module, hidden, context, parts, index: _in_turn(module, hidden, parts)
    )
    """Run one block: module, hidden states, context, its parts, its number."""
    shared: tuple[str, ...] = ()
    """What every block uses."""


VIT = Row(
    before=("patch_embed", "cls_token", "reg_token", "pos_embed", "norm_pre"),
    blocks=r"blocks\.\d+",
    finish=_vit_finish,
    poolings=("avg", "token", "map"),
    begin=_vit_begin,
)
ROWS: Mapping[str, Row] = {
    "EfficientNet": Row(  # also EfficientNet-Lite, MobileNetV2, MnasNet, TinyNet
        before=("conv_stem", "bn1"),
        blocks=r"blocks\.\d+\.\d+",
        finish=_head_after("conv_head", "bn2"),
    ),
    "MobileNetV3": Row(  # also MobileNetV4, LCNet
        before=("conv_stem", "bn1"), blocks=r"blocks\.\d+\.\d+", finish=_head_after()
    ),
    "ResNet": Row(
        before=("conv1", "bn1", "act1", "maxpool"),
        blocks=r"layer\d\.\d+",
        finish=_head_after(),
    ),
    "ConvNeXt": Row(  # also ConvNeXt V2
        before=("stem",),
        blocks=r"stages\.\d+\.blocks\.\d+",
        finish=_head_after("norm_pre"),
    ),
    "VisionTransformer": VIT,  # ViT, DeiT, CLIP, SigLIP, DINO, DINOv2
    "Eva": replace(  # EVA-02, DINOv3
        VIT,
        begin=_eva_begin,
        context=_eva_context,
        step=_eva_step,
        shared=("rope",),
    ),
    "SwinTransformerV2": Row(
        before=("patch_embed",),
        blocks=r"layers\.\d+\.blocks\.\d+",
        finish=_head_after("norm"),
    ),
    "TinyVit": Row(
        before=("patch_embed",),
        blocks=r"stages\.\d+\.blocks\.\d+",
        step=_tiny_vit_step,
        finish=_head_after(),
    ),
}
"""One row a class of timm models."""


def _blocks(module: nn.Module, pattern: str) -> tuple[Parts, ...]:
    """List the blocks; the first of a stage has the stage's downsampling before it."""
    names = [name for name, _ in module.named_modules()]
    found = []
    for name in names:
        if re.fullmatch(pattern, name):
            lead = name.removesuffix(".blocks.0") + ".downsample"
            has_lead = name.endswith(".blocks.0") and lead in names
            found.append((lead, name) if has_lead else (name,))
    return tuple(found)


def build(card: Card, folder: Path | None) -> tuple[nn.Module, Anatomy]:
    """Return an image encoder with random weights, and its anatomy."""
    recipe = card.input
    assert isinstance(recipe, ImageInput)
    module = _create(card, recipe)
    name = type(module).__name__
    if name not in ROWS:
        raise unknown_name("class of timm models", name, ROWS, "fewshot zoo")
    row = ROWS[name]
    has_map = getattr(module, "attn_pool", None) is not None
    poolings = [each for each in row.poolings if has_map or each != "map"]
    if recipe.pooling not in poolings:
        raise CardError(
            f"pooling of card {card.id!r} must be one its architecture has "
            f"({', '.join(poolings)}), got {recipe.pooling!r}. Correct the card."
        )
    if has_map and recipe.pooling != "map":
        module.attn_pool, has_map = None, False
    _adjust(module, card)
    blocks = _blocks(module, row.blocks)
    classifier: str = module.default_cfg["classifier"]

    def begin(module: nn.Module, batch: Tensors) -> Tensor:
        if row.begin is not None:
            return row.begin(module, batch["pixels"])
        return _in_turn(module, batch["pixels"], row.before)

    return module, Anatomy(
        width=getattr(module, "head_hidden_size", None) or module.num_features,
        before=row.before,
        blocks=blocks,
        shared=row.shared,
        leftover=(f"{classifier}.", *(() if has_map else ("attn_pool.",))),
        begin=begin,
        context=lambda module, hidden, mask: row.context(module, recipe.size),
        step=lambda module, hidden, context, index: row.step(
            module, hidden, context, blocks[index], index
        ),
        finish=lambda module, hidden, mask: row.finish(module, hidden, recipe.pooling),
        fit=_fit,
    )


def _create(card: Card, recipe: ImageInput) -> Any:
    ours = ("last_stride", "head_norm")
    options = {name: each for name, each in card.config.items() if name not in ours}
    if not timm.is_model(card.architecture):
        raise unknown_name(
            "timm architecture", card.architecture, timm.list_models(), "timm"
        )
    # An entry point's module is known before anything is built.
    home = timm.model_entrypoint(card.architecture).__module__.rpartition(".")[2]
    takes_size = home in ("vision_transformer", "eva", "swin_transformer_v2")
    if takes_size and not options.get("dynamic_img_size"):
        options.setdefault("img_size", recipe.size)
    try:
        return timm.create_model(
            card.architecture, pretrained=False, num_classes=0, **options
        )
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise CardError(
            f"config of card {card.id!r} must be what timm's {card.architecture} "
            f"takes, got {options} ({error}). Correct the card."
        ) from error


def _adjust(module: Any, card: Card) -> None:
    if card.config.get("last_stride") == 1:
        module.stages[-1].downsample.conv2.conv.stride = (1, 1)
    if card.config.get("head_norm") is False:
        module.head.norm = nn.Identity()
    for layer in module.modules():
        if isinstance(layer, TinyVitAttention):
            layer.__dict__["get_attention_biases"] = MethodType(_biases, layer)
        if hasattr(layer, "qkv_bias_separate"):
            # Else EVA and Swin V2 read the weight of `qkv` without calling it, and
            # LoRA put around it would do nothing.
            layer.qkv_bias_separate = True


def _biases(layer: Any, device: Any) -> Tensor:
    # timm remembers this in eval mode, without gradient and past a weight's change.
    biases: Tensor = layer.attention_biases[:, layer.attention_bias_idxs]
    return biases


def _fit(module: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Filter a checkpoint as timm does, such as positions of another image size."""
    home = sys.modules[type(module).__module__]
    change = getattr(home, "checkpoint_filter_fn", None)
    return dict(tensors if change is None else change(tensors, module))
