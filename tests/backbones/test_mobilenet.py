import dataclasses

import pytest
import torch

from fewshot_automl.backbones import from_timm, mobilenet
from fewshot_automl.backbones.load import build

NAMES = [
    *(f"mobilenetv2_{scale}" for scale in ("035", "050", "075", "100", "140")),
    *(f"tf_efficientnet_lite{index}" for index in range(5)),
    *(f"efficientnet_lite{index}" for index in range(5)),
]


@pytest.fixture
def named(tiny_cards):
    """Return ``architecture -> card``."""
    card = tiny_cards["tiny-mobilenetv2"]
    return lambda name: dataclasses.replace(card, architecture=name)


@pytest.mark.parametrize("name", NAMES)
def test_has_the_tensors_of_timm(named, name):
    with torch.device("meta"):
        ours, anatomy = mobilenet.build(named(name), None)
        theirs, their_anatomy = from_timm.build(named(name), None)
    assert [(n, t.shape) for n, t in ours.state_dict().items()] == [
        (n, t.shape) for n, t in theirs.state_dict().items()
    ]
    assert anatomy.blocks == their_anatomy.blocks
    assert anatomy.width == their_anatomy.width
    eps = [m.eps for m in ours.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert {m.eps for m in theirs.modules() if hasattr(m, "running_var")} == set(eps)


@pytest.mark.parametrize("size", [64, 75])
@pytest.mark.parametrize(
    "name", ["mobilenetv2_050", "tf_efficientnet_lite1", "efficientnet_lite0"]
)
@torch.no_grad()
def test_runs_as_timm_does(named, name, size):
    torch.manual_seed(0)
    theirs, _ = from_timm.build(named(name), None)
    for tensor in theirs.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(0.05 * torch.randn(tensor.shape).abs())
    theirs.eval()
    ours, anatomy = mobilenet.build(named(name), None)
    ours.load_state_dict(theirs.state_dict())
    ours.eval()
    pixels = torch.randn(2, 3, size, size)
    hidden = anatomy.begin(ours, {"pixels": pixels})
    for index in range(anatomy.depth):
        hidden = anatomy.step(ours, hidden, None, index)
    torch.testing.assert_close(anatomy.finish(ours, hidden, None), theirs(pixels))


def test_leaves_what_differs_from_the_standard_to_timm(named):
    card = named("mobilenetv2_050")
    module, _ = build(dataclasses.replace(card, config={"drop_rate": 0.1}))
    assert type(module).__name__ == "EfficientNet"
    assert not mobilenet.is_here(named("mobilenetv2_110d"))
