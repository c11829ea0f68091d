import pytest
import torch
from torch import nn

from fewshot_automl.adaptation.lora_layers import (
    ADAPTER_NAME,
    load_update,
    update_state,
    wrap,
)
from fewshot_automl.errors import TrialError


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.ModuleDict(
            {
                "conv": nn.Conv2d(3, 8, 3, stride=2, padding=1),
                "linear": nn.Linear(8, 5),
            }
        )

    def forward(self, pixels):
        return self.inner["linear"](self.inner["conv"](pixels).mean((2, 3)))


NAMES = ("inner.conv", "inner.linear")


# peft asks transformers by a name that transformers is giving up
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@torch.no_grad()
def test_equals_peft():
    from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model

    torch.manual_seed(0)
    ours, theirs = Net(), Net()
    theirs.load_state_dict(ours.state_dict())
    config = LoraConfig(r=2, lora_alpha=6, target_modules=list(NAMES), bias="none")
    theirs = inject_adapter_in_model(config, theirs).eval()
    for name, parameter in theirs.named_parameters():
        if "lora_" in name:
            parameter.normal_()
    for name in NAMES:
        wrap(ours, name, rank=2, alpha=6.0)
    state = get_peft_model_state_dict(theirs, adapter_name=ADAPTER_NAME)
    assert load_update(ours, state) == []
    assert update_state(ours).keys() == state.keys()
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    pixels = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(ours(pixels), theirs(pixels))


def test_changes_nothing_until_trained():
    net, pixels = Net(), torch.randn(2, 3, 9, 9)
    before = net(pixels)
    for name in NAMES:
        wrap(net, name, rank=4, alpha=8.0)
    assert torch.equal(net(pixels), before)


def test_names_what_does_not_fit():
    net = Net()
    wrap(net, "inner.linear", rank=2, alpha=2.0)
    state = update_state(net)
    state["inner.linear.lora_A.weight"] = torch.zeros(3, 8)
    state["other.lora_A.weight"] = torch.zeros(3, 8)
    assert load_update(net, state) == [
        "other.lora_A.weight",
        "inner.linear.lora_A.weight",
    ]


def test_refuses_other_layers():
    net = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4))
    with pytest.raises(TrialError, match=r"got Conv2d"):
        wrap(net, "0", rank=2, alpha=2.0)
