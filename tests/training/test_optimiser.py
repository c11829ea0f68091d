import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from fewshot_automl.training.optimiser import Optimiser
from fewshot_automl.training.settings import TrainingSettings

RATE, DECAY, STEPS = 0.05, 0.3, 6


@pytest.mark.parametrize("is_fused", [True, False])
def test_equals_the_adamw_of_torch(monkeypatch, is_fused):
    monkeypatch.setattr(Optimiser, "_can_fuse", staticmethod(lambda groups: is_fused))
    torch.manual_seed(0)
    ours = nn.ModuleDict({"a": nn.Linear(3, 4, bias=False), "b": nn.Linear(4, 2)})
    theirs = copy.deepcopy(ours)
    optimiser = Optimiser(
        ours,
        TrainingSettings(
            steps=STEPS,
            batch_size=4,
            learning_rate=RATE,
            weight_decay=DECAY,
            schedule="constant",
            warmup_fraction=0.0,
            max_grad_norm=1e9,
        ),
    )
    vectors = [p for p in theirs.parameters() if p.ndim < 2]
    matrices = [p for p in theirs.parameters() if p.ndim >= 2]
    adamw = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": DECAY},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=RATE,
        fused=is_fused,
    )
    for step in range(STEPS):
        optimiser.clear()
        adamw.zero_grad()
        for (name, one), other in zip(
            ours.named_parameters(), theirs.parameters(), strict=True
        ):
            if step % 2 or name.startswith("a"):  # else this step passes it by
                one.grad = torch.randn_like(one)
                other.grad = one.grad.clone()
        optimiser.step(step)
        adamw.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)


def test_no_step_imports_the_compiler_of_torch():
    code = (
        "import sys, torch\n"
        "from fewshot_automl.training.optimiser import Optimiser\n"
        "from fewshot_automl.training.settings import TrainingSettings\n"
        "net = torch.nn.Linear(2, 2)\n"
        "told = TrainingSettings(steps=1, batch_size=1, learning_rate=0.1)\n"
        "optimiser = Optimiser(net, told)\n"
        "net(torch.ones(1, 2)).sum().backward()\n"
        "optimiser.step(0)\n"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
