"""Trains nets on two processes; started by test_two_processes.py."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fewshot_automl.training import (
    TrainingSettings,
    balanced,
    choose_placement,
    cross_entropy,
    launch,
    supervised_contrastive,
    train,
)

LOSSES = {"entropy": cross_entropy, "contrastive": supervised_contrastive}


class Rows:
    def __init__(self, holds):
        rng = np.random.default_rng(0)
        self.labels = torch.arange(30) % 3
        noise = rng.normal(0, 0.5, (30, 4))
        points = np.eye(3, 4)[self.labels] + noise
        self.points = torch.tensor(points, dtype=torch.float32)
        self.holds = holds

    def __len__(self):
        return 30

    def batch(self, indices, step):
        if len(indices) > self.holds:
            raise MemoryError
        return {"points": self.points[indices]}


class Net(nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Linear(4, 16)
        self.head = nn.Linear(16, 3)

    def forward(self, batch):
        return self.head(self.body(batch["points"]).tanh())


def fit(name, batch_size, holds):
    placement = choose_placement()
    rank = torch.distributed.get_rank() if placement.processes > 1 else 0
    net = Net(seed=rank)  # rank 0's weights must win
    rows = Rows(holds if rank else 30)  # memory runs out in one process only
    log = train(
        net,
        rows,
        rows.labels,
        LOSSES[name],
        balanced(rows.labels.numpy(), batch_size, seed=0),
        TrainingSettings(
            steps=20,
            batch_size=batch_size,
            learning_rate=1e-2,
            head_learning_rate=3e-2,
            validate_every=5,
        ),
        placement,
        validate=lambda: float(rank),  # processes disagree: rank 0 decides
    )
    flat = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
    return {
        "losses": log.losses,
        "weights": flat.tolist(),
        "best": log.best_score,
        "parts": log.parts,
    }


def work(folder, cases):
    reports = [fit(*case) for case in cases]
    world = torch.distributed.get_world_size()
    rank = torch.distributed.get_rank()
    assert torch.distributed.get_backend() == "gloo"
    report = {"world": world, "runs": reports}
    Path(folder, f"{rank}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    folder, cases = sys.argv[1], json.loads(sys.argv[2])
    launch(work, (folder, cases), processes=2)
