"""How tensors of a checkpoint are renamed to what timm and transformers call them."""

import re
from collections.abc import Callable, Mapping
from functools import partial

from fewshot_automl.errors import CardError, unknown_name

KeyMap = Callable[[str], str | None]
"""Takes a tensor's name, returns its new one, or None to leave the tensor out."""


def _same(key: str) -> str | None:
    return key


def _text_encoder(key: str) -> str | None:
    """Keep what `AutoModel` without a pooler has; drop the pooler and counters.

    sentence-transformers put ``auto_model.`` before its names.
    """
    key = key.rpartition("auto_model.")[2]
    if key.startswith("pooler.") or key.endswith("position_ids"):
        return None
    return key


def _headed_text_encoder(key: str) -> str | None:
    """Take the encoder out of a model with a head, such as a masked language model.

    Its names begin with the model's; a repository without a head has no such prefix.
    """
    key = re.sub(r"^(bert|roberta|deberta|distilbert|mpnet|model)\.", "", key)
    if key.startswith(("classifier.", "cls.", "decoder.", "head.", "lm_head.")):
        return None
    return _text_encoder(key)


def _stage(index: int, repeats: tuple[int, ...]) -> str:
    for stage, count in enumerate(repeats):
        if index < count:
            return f"{stage}.{index}"
        index -= count
    raise CardError(f"Block must be one of {sum(repeats)}, got one more.")


def _efficientnet_pytorch(key: str, repeats: tuple[int, ...]) -> str | None:
    """Rename lukemelas' EfficientNet to timm's; blocks are counted through there."""
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head"}
    outer |= {"_bn1": "bn2", "_fc": "classifier"}
    inner = {"_expand_conv": "conv_pw", "_depthwise_conv": "conv_dw"}
    inner |= {"_project_conv": "conv_pwl", "_bn0": "bn1", "_bn1": "bn2", "_bn2": "bn3"}
    first = {"_depthwise_conv": "conv_dw", "_project_conv": "conv_pw"}
    first |= {"_bn1": "bn1", "_bn2": "bn2"}  # the first block does not expand
    match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if match is None:
        module, _, name = key.rpartition(".")
        return f"{outer[module]}.{name}"
    index = int(match[1])
    module = (inner if index else first)[match[2]]
    return f"blocks.{_stage(index, repeats)}.{module}.{match[3]}"


def _torchvision_mobilenetv2(key: str) -> str | None:
    """Rename torchvision's MobileNetV2 to timm's."""
    repeats = (1, 2, 3, 4, 3, 3, 1)
    outer = {"features.0.0": "conv_stem", "features.0.1": "bn1"}
    outer |= {"features.18.0": "conv_head", "features.18.1": "bn2"}
    outer |= {"classifier.1": "classifier"}
    inner = {"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2"}
    inner |= {"2": "conv_pwl", "3": "bn3"}
    first = {"0.0": "conv_dw", "0.1": "bn1", "1": "conv_pw", "2": "bn2"}
    match = re.fullmatch(r"features\.(\d+)\.conv\.([\d.]+)\.(\w+)", key)
    if match is None:
        module, _, name = key.rpartition(".")
        return f"{outer[module]}.{name}"
    index = int(match[1]) - 1
    module = (inner if index else first)[match[2]]
    return f"blocks.{_stage(index, repeats)}.{module}.{match[3]}"


def _mobile_sam(key: str) -> str | None:
    """Take the image encoder out of MobileSAM, named as timm's TinyViT.

    The classifier and its norm were never trained after distillation; the neck and
    everything outside the encoder serve segmentation.
    """
    encoder, rest = "image_encoder.", key
    if not key.startswith(encoder):
        return None
    rest = key.removeprefix(encoder)
    if rest.startswith(("neck.", "head.", "norm_head.")):
        return None
    if rest.endswith("attention_bias_idxs"):
        return None
    rest = rest.replace("patch_embed.seq.0.", "patch_embed.conv1.")
    rest = rest.replace("patch_embed.seq.2.", "patch_embed.conv2.")
    if match := re.fullmatch(r"layers\.(\d)\.(.+)", rest):
        # timm keeps a downsampling at the head of the next stage
        stage = int(match[1]) + match[2].startswith("downsample.")
        rest = f"stages.{stage}.{match[2]}"
    return re.sub(r"\.c\.(weight|bias)$", r".conv.\1", rest)


KEY_MAPS: Mapping[str, KeyMap] = {
    "same": _same,
    "text-encoder": _text_encoder,
    "headed-text-encoder": _headed_text_encoder,
    "efficientnet-lite0": partial(_efficientnet_pytorch, repeats=(1, 2, 2, 3, 3, 4, 1)),
    "efficientnet-lite1": partial(_efficientnet_pytorch, repeats=(1, 3, 3, 4, 4, 5, 1)),
    "efficientnet-lite2": partial(_efficientnet_pytorch, repeats=(1, 3, 3, 4, 4, 5, 1)),
    "torchvision-mobilenetv2": _torchvision_mobilenetv2,
    "mobile-sam": _mobile_sam,
}
"""Every renaming a card may name in `key_map`."""


def rename(keys: list[str], name: str) -> dict[str, str]:
    """Return old name to new name for the tensors that stay.

    Args:
        keys: Names in the checkpoint.
        name: A row of `KEY_MAPS`.

    Raises:
        UnknownNameError: If there is no such row.
        CardError: If a name does not fit the row, or two become one.

    >>> rename(["features.18.0.weight"], "torchvision-mobilenetv2")
    {'features.18.0.weight': 'conv_head.weight'}
    """
    if name not in KEY_MAPS:
        raise unknown_name("key map", name, KEY_MAPS, "key_maps.KEY_MAPS")
    renamed: dict[str, str] = {}
    for key in keys:
        try:
            new = KEY_MAPS[name](key)
        except KeyError:
            raise CardError(
                f"Tensor names must fit key map {name!r}, got {key!r}. "
                "Correct key_map in the card."
            ) from None
        if new is not None:
            renamed[key] = new
    if len(set(renamed.values())) < len(renamed) or not renamed:
        raise CardError(
            f"Key map {name!r} must give each tensor its own name, got "
            f"{len(renamed)} tensors with {len(set(renamed.values()))} names. "
            "Correct key_map in the card."
        )
    return renamed
