import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fewshot_automl.backbones.from_timm import ROWS, build
from fewshot_automl.backbones.load import load
from fewshot_automl.errors import CardError, UnknownNameError

TINY = Path(__file__).parents[1] / "zoo" / "image"


@pytest.fixture(params=sorted(path.stem for path in TINY.glob("*.toml")))
def backbone(request, tiny_backbone):
    return tiny_backbone(request.param)


@pytest.fixture
def pixels(backbone):
    generator = torch.Generator().manual_seed(0)
    size = backbone.card.input.size
    return torch.randn(2, 3, size, size, generator=generator)


@torch.no_grad()
def test_equals_the_forward_of_timm(backbone, pixels):
    module, _ = build(backbone.card, None)
    module.load_state_dict(backbone.module.state_dict())
    module.eval()
    if hasattr(module, "global_pool") and isinstance(module.global_pool, str):
        module.global_pool = backbone.card.input.pooling
    torch.testing.assert_close(
        backbone.features({"pixels": pixels}), module(pixels), rtol=1e-4, atol=1e-5
    )


def test_every_row_has_a_tiny_card(tiny_backbone):
    classes = {
        type(tiny_backbone(path.stem).module).__name__ for path in TINY.glob("*.toml")
    }
    assert classes == set(ROWS)


@torch.no_grad()
def test_changed_weights_show_in_eval_mode(backbone, pixels):
    fork = backbone.fork(-1)
    before = fork.features({"pixels": pixels})
    for name, tensor in fork.module.named_parameters():
        if "bias" in name:  # also attention biases, which timm caches in eval mode
            tensor.add_(torch.randn(tensor.shape))
    after = fork.features({"pixels": pixels})
    reloaded = backbone.fork(-1)
    reloaded.module.load_state_dict(fork.module.state_dict())
    assert not torch.allclose(before, after)
    torch.testing.assert_close(reloaded.features({"pixels": pixels}), after)


def test_tiny_vit_keeps_resolution_in_its_last_stage(tiny_cards):
    card = tiny_cards["tiny-tinyvit"]
    plain = dataclasses.replace(card, config={**card.config, "last_stride": 2})
    batch = {"pixels": torch.zeros(1, 3, 64, 64)}
    shapes = []
    for each in (card, plain):
        module, anatomy = build(each, None)
        hidden = anatomy.begin(module, batch)
        for index in range(anatomy.depth):
            hidden = anatomy.step(module, hidden, None, index)
        shapes.append(tuple(hidden.shape[2:]))
    assert shapes == [(4, 4), (2, 2)]


@pytest.mark.parametrize("card_id", ["tiny-dinov2", "tiny-eva02", "tiny-vit"])
def test_resamples_positions_of_another_size(tiny_cards, random_weights, card_id):
    card = tiny_cards[card_id]
    larger = dataclasses.replace(card.input, size=64)
    backbone = load(dataclasses.replace(card, input=larger), random_weights(card))
    assert backbone.features({"pixels": torch.zeros(1, 3, 64, 64)}).isfinite().all()


def test_leaves_the_classifier_out(tiny_cards, random_weights, tmp_path):
    card = tiny_cards["tiny-resnet"]
    tensors = load_file(random_weights(card) / "model.safetensors")
    tensors |= {"fc.weight": torch.zeros(9, card.width), "fc.bias": torch.zeros(9)}
    save_file(tensors, tmp_path / "model.safetensors")
    load(card, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": {"depht": 3}}, r"must be what timm's test_vit takes"),
        ({"pooling": "map"}, r"must be one its architecture has"),
    ],
)
def test_refuses_what_the_architecture_lacks(tiny_cards, changes, message):
    card = tiny_cards["tiny-vit"]
    if "pooling" in changes:
        changes = {"input": dataclasses.replace(card.input, **changes)}
    with pytest.raises(CardError, match=message):
        build(dataclasses.replace(card, **changes), None)


def test_refuses_unknown_names(tiny_cards):
    card = tiny_cards["tiny-vit"]
    with pytest.raises(UnknownNameError, match=r"Closest: .*'test_vit'"):
        build(dataclasses.replace(card, architecture="test_vitt"), None)
    with pytest.raises(UnknownNameError, match=r"class of timm models named 'NormFree"):
        build(dataclasses.replace(card, architecture="test_nfnet"), None)
