"""What the loop trains gives the same rows however a batch is cut."""

import numpy as np
import pytest
import torch

from fewshot_automl.adaptation import trainee as module
from fewshot_automl.adaptation.heads import LinearHead, Scaling
from fewshot_automl.adaptation.lora import LoraSettings, attach, dropouts
from fewshot_automl.adaptation.trainee import ScaledLinear, Trainee

LONG = "where is the river city river is where a good film"
TEXTS = tuple(LONG[: 4 + 9 * (n % 6)] for n in range(16))


@pytest.fixture
def trainees(tiny_backbone):
    """Return two trainees of one fork: one saves padding, one does not."""
    base = tiny_backbone("tiny-bert")
    fork = base.fork(base.depth)
    attach(fork, base, 1, LoraSettings(rank=4, alpha=8.0, dropout=0.4), seed=0)
    return base, [
        Trainee(fork, 1, None, saves_padding=saves) for saves in (True, False)
    ]


def activations(base):
    return base.stem(base.collate(base.preprocess(TEXTS)), 1)


def test_short_and_long_rows_run_apart_with_the_same_result(trainees, monkeypatch):
    base, (saving, plain) = trainees
    cuts = []
    real = module.parts_by_length

    def spy(batch):
        parts = real(batch)
        cuts.extend(part["hidden"].shape[1] for _, part in parts)
        return parts

    monkeypatch.setattr(module, "parts_by_length", spy)
    batch = activations(base)
    found, expected = saving.eval()(batch), plain.eval()(batch)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert len(cuts) > 1
    assert min(cuts) < max(cuts)


def test_only_the_dropout_before_lora_layers_is_switched_on(trainees):
    _, (_, plain) = trainees
    plain.train()
    switched = {m for m in plain.encoder.modules() if m.training}
    assert switched == set(dropouts(plain.encoder)) != set()
    plain.eval()
    assert not any(m.training for m in plain.encoder.modules())


@pytest.mark.parametrize("unit", [True, False])
def test_the_head_in_torch_is_the_head_in_numpy(unit):
    chance = np.random.default_rng(0)
    features = chance.normal(size=(7, 5)).astype(np.float32)
    head = LinearHead(
        scaling=Scaling.fit(features, "unit" if unit else "standard"),
        weight=chance.normal(size=(5, 3)).astype(np.float32),
        bias=chance.normal(size=3).astype(np.float32),
    )
    trained = ScaledLinear(head)
    proba = trained(torch.from_numpy(features)).softmax(dim=1)
    np.testing.assert_allclose(proba.detach(), head.outputs(features), atol=1e-5)
    with torch.no_grad():
        trained.bias += 1
    again = trained.to_head()
    np.testing.assert_array_equal(again.weight, head.weight)
    np.testing.assert_array_equal(again.bias, head.bias + 1)
