"""LoRA by peft, inside our backbones."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fewshot_automl.adaptation.lora import (
    VARIANTS,
    WEIGHTS_FILE,
    attach,
    load_adapter,
    save_adapter,
    update_numbers,
)
from fewshot_automl.errors import ExportError, TrialError
from fewshot_automl.space import Config

EVERY = ["tiny-bert", "tiny-vit"]


def adapted(base, cut=1, seed=0, **values):
    shape = {"rank": 4, "alpha_ratio": 2.0, "lora_dropout": 0.0, **values}
    return attach(base, cut, Config.of(shape), seed)


def batch_of(base):
    chance = np.random.default_rng(0)
    inputs = ("good film", "where is the river")
    if base.card.modality == "image":
        inputs = [chance.integers(0, 256, (40, 40, 3), dtype=np.uint8) for _ in "ab"]
    return base.collate(base.preprocess(inputs))


def state_of(fork):
    return {n: p for n, p in fork.module.named_parameters() if "lora_" in n}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_changes_nothing_until_trained(tiny_backbone, name, variant):
    base = tiny_backbone(name)
    fork = adapted(base, lora_variant=variant)
    batch = batch_of(base)
    torch.testing.assert_close(
        fork.features(batch), base.features(batch), rtol=1e-5, atol=1e-6
    )
    assert not any("lora_" in n for n, _ in base.module.named_modules())


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_the_layers_after_the_cut_get_gradients(tiny_backbone, variant):
    base = tiny_backbone("tiny-bert")
    fork = adapted(base, cut=1, lora_variant=variant)
    trained = [n for n, p in fork.module.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    assert {n.partition(".lora_")[0] for n in trained} == set(base.lora_targets(1))
    fork.features(batch_of(base)).sum().backward()
    ups = [p for n, p in state_of(fork).items() if "lora_B" in n]
    assert all(p.grad.abs().max() > 0 for p in ups)
    assert all(p.grad is None for p in base.module.parameters())


def test_the_seed_decides_the_down_projections(tiny_backbone):
    base = tiny_backbone("tiny-bert")
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first, again, other = (adapted(base, seed=s) for s in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    for name, value in state_of(first).items():
        assert torch.equal(value, state_of(again)[name])
        if "lora_A" in name:
            assert not torch.equal(value, state_of(other)[name])


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("variant", VARIANTS)
def test_its_size_is_known_beforehand(tiny_backbone, name, variant):
    base = tiny_backbone(name)
    fork = adapted(base, cut=0, rank=3, lora_variant=variant)
    layers = [base.module.get_submodule(n) for n in base.lora_targets(0)]
    sizes = [update_numbers(layer) for layer in layers]
    expected = sum(3 * a_rank + (variant == "dora") * dora for a_rank, dora in sizes)
    assert sum(p.numel() for p in state_of(fork).values()) == expected


@pytest.fixture
def saved(tiny_backbone, tmp_path):
    base = tiny_backbone("tiny-bert")
    fork = adapted(base)
    with torch.no_grad():
        for value in state_of(fork).values():
            value.normal_()
    save_adapter(fork.module, tmp_path)
    return base, fork, tmp_path


@torch.no_grad()
def test_comes_back_from_disk_on_the_plain_backbone(saved):
    base, fork, folder = saved
    again = load_adapter(base, folder)
    batch = batch_of(base)
    torch.testing.assert_close(again.features(batch), fork.features(batch))
    assert not any(p.requires_grad for p in again.module.parameters())
    assert not any(module.training for module in again.module.modules())


def rename(state):
    return {name.replace("layer.1", "layer.9"): v for name, v in state.items()}


@pytest.mark.parametrize("harm", [rename, lambda state: {}])
def test_names_that_do_not_fit_are_refused(saved, harm):
    base, _, folder = saved
    file = folder / WEIGHTS_FILE
    save_file(harm(load_file(file)), file)
    with pytest.raises(ExportError, match="must"):
        load_adapter(base, folder)


def test_a_rank_of_none_is_refused(tiny_backbone):
    with pytest.raises(TrialError, match="must be put"):
        adapted(tiny_backbone("tiny-bert"), rank=0)
