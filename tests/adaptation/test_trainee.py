"""What the loop trains gives the same rows however a batch is cut."""

import numpy as np
import pytest
import torch

from fewshot_automl.adaptation.lora import LoraSettings, RowDropout, attach
from fewshot_automl.adaptation.trainee import Trainee

LONG = "where is the river city river is where a good film"
TEXTS = tuple(LONG[: 4 + 9 * (n % 6)] for n in range(16))


@pytest.fixture
def trainees(tiny_backbone):
    """Return two trainees of one fork: one saves padding, one does not."""
    base = tiny_backbone("tiny-bert")
    fork = base.fork(1)
    attach(fork, base, 1, LoraSettings(rank=4, alpha=8.0, dropout=0.4))
    with torch.no_grad():
        for name, parameter in fork.module.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape) * 0.1)
    return base, [
        Trainee(fork, 1, None, saves_padding=saves) for saves in (True, False)
    ]


def activations(base):
    return base.stem(base.collate(base.preprocess(TEXTS)), 1)


def test_short_and_long_rows_run_apart_with_the_same_result(trainees, monkeypatch):
    base, (saving, plain) = trainees
    lengths = []
    real = type(saving)._encode

    def spy(self, batch, masks):
        lengths.append(batch["hidden"].shape[1])
        return real(self, batch, masks)

    monkeypatch.setattr(type(saving), "_encode", spy)
    batch = activations(base)
    found, expected = saving.eval()(batch), plain.eval()(batch)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert len(lengths) > 2
    assert min(lengths) < max(lengths)


def test_dropout_belongs_to_the_rows_whatever_the_cut(trainees):
    base, (saving, plain) = trainees
    batch = activations(base)
    outputs = []
    for trainee in (saving, plain):
        trainee.train()
        torch.manual_seed(3)
        outputs.append(trainee(batch))
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-4)
    torch.manual_seed(4)
    assert not torch.allclose(plain(batch), outputs[1], atol=1e-3)
    plain.eval()
    assert not torch.allclose(plain(batch), outputs[1], atol=1e-3)


def test_the_encoders_own_dropout_stays_off(trainees):
    _, (_, plain) = trainees
    plain.train()
    kinds = [
        module
        for module in plain.encoder.modules()
        if module.training and not isinstance(module, RowDropout)
    ]
    assert kinds == []
    assert any(isinstance(m, RowDropout) and m.training for m in plain.modules())


def test_row_dropout_drops_whole_channels_and_keeps_the_mean():
    from fewshot_automl.adaptation.lora_layers import LoraLayer

    layer = LoraLayer(torch.nn.Linear(400, 5), 2, 4.0)
    dropout = RowDropout(layer, 0.25)
    dropout.train()
    torch.manual_seed(0)
    dropout.mask = dropout.draw(50)
    out = dropout(torch.ones(50, 7, 400))
    assert torch.equal(out, out[:, :1].expand_as(out))
    np.testing.assert_allclose(np.unique(out.numpy()), [0.0, 1 / 0.75], rtol=1e-6)
    assert out.mean().item() == pytest.approx(1, abs=0.02)
    windows = dropout(torch.ones(100, 7, 400))
    assert torch.equal(windows[0::2], windows[1::2])
    dropout.eval()
    assert torch.equal(dropout(torch.ones(50, 7, 400)), torch.ones(50, 7, 400))
