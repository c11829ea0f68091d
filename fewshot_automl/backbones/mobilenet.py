"""MobileNetV2 and EfficientNet-Lite, our default image encoders, without timm.

Importing timm brings in torchvision and torch's compiler and costs more than the
first trials of a study. Tensors have timm's names, so one file fills either network;
a test holds each equal to timm's own.
"""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot_automl.backbones.anatomy import Anatomy
from fewshot_automl.backbones.backbone import Tensors
from fewshot_automl.backbones.card import Card

Stage = tuple[int, int, int, int, int]
"""Blocks, kernel, stride of the first, expansion (1: none) and channels."""
Convolution = Callable[..., nn.Conv2d]

MOBILENET: Final[tuple[Stage, ...]] = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (3, 3, 2, 6, 32),
    (4, 3, 2, 6, 64),
    (3, 3, 1, 6, 96),
    (3, 3, 2, 6, 160),
    (1, 3, 1, 6, 320),
)
"""Source: Sandler et al., MobileNetV2, CVPR 2018, tab. 2."""
LITE: Final[tuple[Stage, ...]] = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Source: Tan and Le, EfficientNet, ICML 2019, tab. 1; Lite has no attention."""
LITE_SCALES: Final = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2), (1.2, 1.4), (1.4, 1.8))
"""Factors on channels and blocks of EfficientNet-Lite0 to 4."""
STEM: Final = 32
HEAD: Final = 1280
"""Channels before the first block and after the last."""
_MOBILENET_NAME: Final = re.compile(r"mobilenetv2_(035|050|075|100|140)")
_LITE_NAME: Final = re.compile(r"(tf_)?efficientnet_lite([0-4])")


def is_here(card: Card) -> bool:
    """Return whether `build` can make a card's network."""
    name = card.architecture
    is_known = _MOBILENET_NAME.fullmatch(name) or _LITE_NAME.fullmatch(name)
    return bool(is_known) and not card.config and card.input.pooling == "avg"


def build(card: Card, folder: Path | None) -> tuple[nn.Module, Anatomy]:
    """Return an image encoder with random weights, and its anatomy.

    Args:
        card: One that `is_here`.
        folder: Not used; the architectures need no files.
    """
    module = _network(card.architecture)
    # Convolutions run an eighth faster so, measured with one thread on a CPU.
    module.to(memory_format=torch.channels_last)
    places = tuple(
        f"blocks.{stage}.{index}"
        for stage, blocks in enumerate(module.blocks)
        for index, _ in enumerate(blocks)  # type: ignore[arg-type]
    )

    def step(module: nn.Module, hidden: Tensor, context: Any, index: int) -> Tensor:
        out: Tensor = module.get_submodule(places[index])(hidden)
        return out

    return module, Anatomy(
        width=module.conv_head.out_channels,
        before=("conv_stem", "bn1"),
        blocks=tuple((place,) for place in places),
        leftover=("classifier.",),
        begin=_begin,
        context=_no_context,
        step=step,
        finish=_finish,
    )


def _network(name: str) -> "MobileNet":
    if found := _MOBILENET_NAME.fullmatch(name):
        scale = int(found[1]) / 100
        stages = tuple((*stage[:4], rounded(stage[4] * scale)) for stage in MOBILENET)
        stem, head = rounded(STEM * scale), max(HEAD, rounded(HEAD * scale))
        return MobileNet(stages, stem, head, nn.Conv2d, 1e-5)
    found = _LITE_NAME.fullmatch(name)
    assert found is not None
    width, depth = LITE_SCALES[int(found[2])]
    # The first stage and the last keep their one block.
    stages = tuple(
        (
            count if count == 1 else math.ceil(count * depth),
            kernel,
            stride,
            expansion,
            rounded(channels * width),
        )
        for count, kernel, stride, expansion, channels in LITE
    )
    if found[1]:  # trained by TensorFlow, which pads and normalises its own way
        return MobileNet(stages, STEM, HEAD, PaddedAtTheEnd, 1e-3)
    return MobileNet(stages, STEM, HEAD, nn.Conv2d, 1e-5)


def rounded(channels: float) -> int:
    """Return the nearest multiple of 8, but not below nine tenths.

    >>> rounded(26.4), rounded(11.2)
    (24, 16)
    """
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


class MobileNet(nn.Module):
    """Holds stem, blocks and head; `Anatomy` says how they are run."""

    def __init__(
        self,
        stages: tuple[Stage, ...],
        stem: int,
        head: int,
        convolution: Convolution,
        eps: float,
    ) -> None:
        super().__init__()
        self.conv_stem = convolution(3, stem, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem, eps=eps)
        built, before = [], stem
        for count, kernel, stride, expansion, after in stages:
            stage: list[nn.Module] = []
            for index in range(count):
                step = 1 if index else stride
                spatial = (convolution if step > 1 else nn.Conv2d, kernel, step)
                if expansion == 1:
                    stage.append(Separable(before, after, spatial, eps))
                else:
                    wide = before * expansion
                    stage.append(Inverted(before, wide, after, spatial, eps))
                before = after
            built.append(nn.Sequential(*stage))
        self.blocks = nn.Sequential(*built)
        self.conv_head = nn.Conv2d(before, head, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(head, eps=eps)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                _draw(layer)


def _draw(layer: nn.Conv2d) -> None:
    """Draw weights that keep the size of gradients.

    Source:
        He et al., Delving deep into rectifiers, ICCV 2015, eq. 14.
    """
    fan = math.prod(layer.kernel_size) * layer.out_channels // layer.groups
    nn.init.normal_(layer.weight, 0.0, math.sqrt(2 / fan))


Spatial = tuple[Convolution, int, int]
"""Class, kernel and stride of a convolution in space, channel by channel."""


def _in_space(channels: int, spatial: Spatial) -> nn.Conv2d:
    convolution, kernel, stride = spatial
    return convolution(
        channels,
        channels,
        kernel,
        stride=stride,
        padding=kernel // 2,
        groups=channels,
        bias=False,
    )


class Separable(nn.Module):
    """Filters in space, then mixes channels."""

    def __init__(self, before: int, after: int, spatial: Spatial, eps: float) -> None:
        super().__init__()
        self.conv_dw = _in_space(before, spatial)
        self.bn1 = nn.BatchNorm2d(before, eps=eps)
        self.conv_pw = nn.Conv2d(before, after, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after, eps=eps)
        self._adds = before == after and spatial[2] == 1

    def forward(self, hidden: Tensor) -> Tensor:
        """Run the block."""
        out = _bent(self.bn1(self.conv_dw(hidden)))
        mixed: Tensor = self.bn2(self.conv_pw(out))
        return mixed + hidden if self._adds else mixed


class Inverted(nn.Module):
    """Widens, filters in space and narrows again."""

    def __init__(
        self, before: int, wide: int, after: int, spatial: Spatial, eps: float
    ) -> None:
        super().__init__()
        self.conv_pw = nn.Conv2d(before, wide, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide, eps=eps)
        self.conv_dw = _in_space(wide, spatial)
        self.bn2 = nn.BatchNorm2d(wide, eps=eps)
        self.conv_pwl = nn.Conv2d(wide, after, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after, eps=eps)
        self._adds = before == after and spatial[2] == 1

    def forward(self, hidden: Tensor) -> Tensor:
        """Run the block."""
        out = _bent(self.bn1(self.conv_pw(hidden)))
        out = _bent(self.bn2(self.conv_dw(out)))
        narrow: Tensor = self.bn3(self.conv_pwl(out))
        return narrow + hidden if self._adds else narrow


class PaddedAtTheEnd(nn.Conv2d):
    """Pads as TensorFlow does: only what is needed, the odd pixel at the end.

    What it is told of padding it leaves aside.
    """

    def forward(self, hidden: Tensor) -> Tensor:
        """Pad and convolve."""
        pads: list[int] = []
        for size, kernel, stride in zip(
            hidden.shape[:1:-1], self.kernel_size, self.stride, strict=True
        ):
            needed = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            pads += [needed // 2, needed - needed // 2]
        return F.conv2d(
            F.pad(hidden, pads), self.weight, None, self.stride, groups=self.groups
        )


def _bent(hidden: Tensor) -> Tensor:
    return F.relu6(hidden, inplace=True)


def _begin(module: Any, batch: Tensors) -> Tensor:
    out: Tensor = _bent(module.bn1(module.conv_stem(batch["pixels"])))
    return out


def _no_context(module: nn.Module, hidden: Tensor, mask: Tensor | None) -> None:
    return None


def _finish(module: Any, hidden: Tensor, mask: Tensor | None) -> Tensor:
    out: Tensor = _bent(module.bn2(module.conv_head(hidden))).mean((2, 3))
    return out
