"""Image encoders of timm, cut at their residual blocks.

Each supported model class has one row in `ROWS`. A block is one residual block, also
in networks built of stages: the first block of a stage has the stage's downsampling
before it. So the depth of EfficientNet-Lite0 is 16, of ResNet-18 it is 8, and of a
vision transformer it is what everybody says.

A card's `config` holds keyword arguments of timm's architecture, and two of our own:

* ``last_stride = 1``: TinyViT's last downsampling keeps the resolution (the
  variants distilled from SAM).
* ``head_norm = false``: no norm after pooling, for weights that come without one.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from typing import Any

import timm
from timm.models.tiny_vit import Attention as TinyVitAttention
from timm.models.tiny_vit import TinyVitBlock
from torch import Tensor, nn

from fewshot_automl.backbones.anatomy import Anatomy, Tensors
from fewshot_automl.backbones.card import Card, ImageInput
from fewshot_automl.errors import CardError, unknown_name

Blocks = tuple[tuple[str, ...], ...]

VIT_BEGINNING = ("patch_embed", "cls_token", "reg_token", "pos_embed", "norm_pre")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """How one class of timm models is run in pieces."""

    before: tuple[str, ...]
    """What runs before the first block; in this order, if `begin` is `_in_turn`."""
    blocks: Callable[[nn.Module], Blocks]
    """List the blocks."""
    finish: Callable[[Any, Tensor, str], Tensor]
    """From module, last block's output and the card's pooling to vectors."""
    poolings: tuple[str, ...] = ("avg",)
    """What a card may ask for."""
    begin: Callable[[Any, Tensor], Tensor] | None = None
    """From pixels to what the first block takes; None: run `before` in turn."""
    context: Callable[[Any, int], Any] | None = None
    """From module and image size to what all blocks take besides hidden states."""
    step: Callable[[Any, Tensor, Any, tuple[str, ...], int], Tensor] | None = None
    """Run one block: module, hidden states, context, its parts, its number."""
    shared: tuple[str, ...] = ()
    """What every block uses."""


def _in_turn(module: Any, hidden: Tensor, parts: tuple[str, ...]) -> Tensor:
    for part in parts:
        hidden = module.get_submodule(part)(hidden)
    return hidden


def _flat(module: Any) -> Blocks:
    return tuple((f"blocks.{index}",) for index in range(len(module.blocks)))


def _efficientnet_blocks(module: Any) -> Blocks:
    return tuple(
        (f"blocks.{stage}.{index}",)
        for stage, blocks in enumerate(module.blocks)
        for index in range(len(blocks))
    )


def _resnet_blocks(module: Any) -> Blocks:
    return tuple(
        (f"layer{stage}.{index}",)
        for stage in range(1, 5)
        for index in range(len(module.get_submodule(f"layer{stage}")))
    )


def _staged(stages: str) -> Callable[[Any], Blocks]:
    def blocks(module: Any) -> Blocks:
        found: list[tuple[str, ...]] = []
        for number, stage in enumerate(module.get_submodule(stages)):
            path = f"{stages}.{number}"
            lead = (f"{path}.downsample",) if hasattr(stage, "downsample") else ()
            for index in range(len(stage.blocks)):
                own = (f"{path}.blocks.{index}",)
                found.append(own if index else (*lead, *own))
        return tuple(found)

    return blocks


def _tiny_vit_step(
    module: Any, hidden: Tensor, context: Any, parts: tuple[str, ...], index: int
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
    module: Any, hidden: Tensor, context: Any, parts: tuple[str, ...], index: int
) -> Tensor:
    is_mixed = context is not None and getattr(module, "rope_mixed", False)
    rope = context[index] if is_mixed else context
    out: Tensor = module.get_submodule(parts[0])(hidden, rope=rope)
    return out


def _vit_finish(module: Any, hidden: Tensor, pooling: str) -> Tensor:
    pooled = module.pool(module.norm(hidden), pool_type=pooling)
    out: Tensor = module.head_drop(module.fc_norm(pooled))
    return out


def _efficientnet_finish(module: Any, hidden: Tensor, pooling: str) -> Tensor:
    hidden = module.bn2(module.conv_head(hidden))
    return _head(module, hidden, pooling)


def _head(module: Any, hidden: Tensor, pooling: str) -> Tensor:
    out: Tensor = module.forward_head(hidden, pre_logits=True)
    return out


def _convnext_finish(module: Any, hidden: Tensor, pooling: str) -> Tensor:
    return _head(module, module.norm_pre(hidden), pooling)


def _swin_finish(module: Any, hidden: Tensor, pooling: str) -> Tensor:
    return _head(module, module.norm(hidden), pooling)


ROWS: Mapping[str, Row] = {
    "EfficientNet": Row(  # also EfficientNet-Lite, MobileNetV2, MnasNet, TinyNet
        before=("conv_stem", "bn1"),
        blocks=_efficientnet_blocks,
        finish=_efficientnet_finish,
    ),
    "MobileNetV3": Row(  # also MobileNetV4, LCNet
        before=("conv_stem", "bn1"), blocks=_efficientnet_blocks, finish=_head
    ),
    "ResNet": Row(
        before=("conv1", "bn1", "act1", "maxpool"),
        blocks=_resnet_blocks,
        finish=_head,
    ),
    "ConvNeXt": Row(  # also ConvNeXt V2
        before=("stem",), blocks=_staged("stages"), finish=_convnext_finish
    ),
    "VisionTransformer": Row(  # ViT, DeiT, CLIP, SigLIP, DINO, DINOv2
        before=VIT_BEGINNING,
        blocks=_flat,
        finish=_vit_finish,
        poolings=("avg", "token", "map"),
        begin=_vit_begin,
    ),
    "Eva": Row(  # EVA-02, DINOv3
        before=VIT_BEGINNING,
        blocks=_flat,
        finish=_vit_finish,
        poolings=("avg", "token", "map"),
        begin=_eva_begin,
        context=_eva_context,
        step=_eva_step,
        shared=("rope",),
    ),
    "SwinTransformerV2": Row(
        before=("patch_embed",), blocks=_staged("layers"), finish=_swin_finish
    ),
    "TinyVit": Row(
        before=("patch_embed",),
        blocks=_staged("stages"),
        step=_tiny_vit_step,
        finish=_head,
    ),
}
"""One row a class of timm models."""


def build(card: Card, folder: Path | None) -> tuple[nn.Module, Anatomy]:
    """Return an image encoder with random weights, and its anatomy.

    Args:
        card: Its `config` holds timm's keyword arguments and ours.
        folder: Not used; timm's architectures need no files.

    Raises:
        CardError: If timm refuses the card's architecture or configuration.
        UnknownNameError: If the model's class has no row in `ROWS`.
    """
    recipe = card.input
    assert isinstance(recipe, ImageInput)
    module = _create(card, recipe)
    row = _row(module)
    _adjust(module, card, recipe, row)
    blocks = row.blocks(module)
    classifier: str = module.default_cfg["classifier"]

    def begin(module: nn.Module, batch: Tensors) -> Tensor:
        pixels = batch["pixels"]
        if row.begin is not None:
            return row.begin(module, pixels)
        return _in_turn(module, pixels, row.before)

    def context(module: nn.Module, hidden: Tensor, mask: Tensor | None) -> Any:
        return None if row.context is None else row.context(module, recipe.size)

    def step(module: nn.Module, hidden: Tensor, context: Any, index: int) -> Tensor:
        if row.step is not None:
            return row.step(module, hidden, context, blocks[index], index)
        return _in_turn(module, hidden, blocks[index])

    def finish(module: nn.Module, hidden: Tensor, mask: Tensor | None) -> Tensor:
        return row.finish(module, hidden, recipe.pooling)

    return module, Anatomy(
        width=getattr(module, "head_hidden_size", None) or module.num_features,
        before=row.before,
        blocks=blocks,
        shared=row.shared,
        leftover=(f"{classifier}.", *(() if _has_map(module) else ("attn_pool.",))),
        begin=begin,
        context=context,
        step=step,
        finish=finish,
        fit=_fit,
    )


def _create(card: Card, recipe: ImageInput) -> Any:
    options = dict(card.config)
    options.pop("last_stride", None)
    options.pop("head_norm", None)
    if not timm.is_model(card.architecture):
        raise unknown_name(
            "timm architecture", card.architecture, timm.list_models(), "timm"
        )
    if _takes_size(card.architecture) and not options.get("dynamic_img_size"):
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


def _takes_size(architecture: str) -> bool:
    # An entry point's module is known before anything is built.
    home = timm.model_entrypoint(architecture).__module__.rpartition(".")[2]
    return home in ("vision_transformer", "eva", "swin_transformer_v2")


def _row(module: nn.Module) -> Row:
    name = type(module).__name__
    if name not in ROWS:
        raise unknown_name("class of timm models", name, ROWS, "fewshot zoo")
    return ROWS[name]


def _has_map(module: Any) -> bool:
    return getattr(module, "attn_pool", None) is not None


def _adjust(module: Any, card: Card, recipe: ImageInput, row: Row) -> None:
    if recipe.pooling not in row.poolings or (
        recipe.pooling == "map" and not _has_map(module)
    ):
        raise CardError(
            f"pooling of card {card.id!r} must be one its architecture has "
            f"({', '.join(row.poolings)}), got {recipe.pooling!r}. Correct the card."
        )
    if recipe.pooling != "map" and _has_map(module):
        module.attn_pool = None
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
