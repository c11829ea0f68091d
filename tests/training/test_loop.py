import copy
import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fewshot_automl.errors import OutOfTime, TrialError
from fewshot_automl.training import (
    Placement,
    TrainingSettings,
    balanced,
    cross_entropy,
    shuffled,
    supervised_contrastive,
    train,
)
from fewshot_automl.training.settings import SCHEDULES

CPU = Placement(device="cpu")


class Points:
    """Three clouds, as rows."""

    def __init__(self, n=48, seed=0):
        rng = np.random.default_rng(seed)
        self.labels = torch.arange(n) % 3
        angles = self.labels.numpy() * 2 * np.pi / 3
        points = np.stack([np.cos(angles), np.sin(angles)], 1)
        points += rng.normal(0, 0.2, points.shape)
        self.points = torch.tensor(points, dtype=torch.float32)

    def __len__(self):
        return len(self.points)

    def batch(self, indices, step, own=slice(None)):
        return {"points": self.points[indices[own]]}


class Net(nn.Module):
    def __init__(self, dropout=0.0, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.body = nn.Sequential(
                nn.Linear(2, 32), nn.LayerNorm(32), nn.Tanh(), nn.Dropout(dropout)
            )
            self.head = nn.Linear(32, 3)

    def forward(self, batch):
        return self.head(self.body(batch["points"]))


def settings(**changes):
    plain = {"steps": 12, "batch_size": 12, "learning_rate": 1e-2}
    return TrainingSettings(**{**plain, **changes})


def run(
    net, rows=None, loss=cross_entropy, sampler=None, how=None, placement=CPU, **extra
):
    rows, how = rows or Points(), how or settings()
    sampler = sampler or shuffled(len(rows), how.seed)
    return train(net, rows, rows.labels, loss, sampler, how, placement, **extra)


def weights(net):
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()])


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_a_small_net_learns(schedule):
    net, rows = Net(dropout=0.1), Points()
    log = run(net, rows, how=settings(steps=120, schedule=schedule))
    assert len(log.losses) == settings(steps=120, schedule=schedule).useful_steps
    assert log.losses[-1] < 0.3 < log.losses[0]
    assert (net({"points": rows.points}).argmax(1) == rows.labels).float().mean() > 0.95
    assert not net.training
    assert all(p.grad is None for p in net.parameters())
    assert log.parts == 1


def test_contrastive_training_pulls_classes_together():
    net, rows = Net(), Points()
    sampler = balanced(rows.labels.numpy(), 0)
    run(net, rows, supervised_contrastive, sampler, settings(steps=80))
    z = nn.functional.normalize(net({"points": rows.points}).detach(), dim=1)
    same = rows.labels[:, None] == rows.labels[None]
    assert (z @ z.T)[same].mean() > (z @ z.T)[~same].mean() + 0.8


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_seed_decides_everything_and_no_global_state_changes(dropout):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first, second, other = Net(dropout), Net(dropout), Net(dropout)
    run(first)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    run(second)
    assert torch.equal(weights(first), weights(second))
    sampler = shuffled(48, 0)
    run(other, sampler=sampler, how=settings(seed=1))
    assert torch.equal(weights(first), weights(other)) == (dropout == 0)


class Small:
    """Rows on a device that holds only so many examples."""

    def __init__(self, rows, holds, error):
        self.rows, self.holds, self.error = rows, holds, error
        self.seen = []
        self.labels = rows.labels

    def __len__(self):
        return len(self.rows)

    def batch(self, indices, step, own=slice(None)):
        if len(indices) > self.holds:
            raise self.error
        self.seen.append(len(indices))
        return self.rows.batch(indices, step, own)


FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
CPU_FULL = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")


@pytest.mark.parametrize("error", [FULL, CPU_FULL])
@pytest.mark.parametrize(("holds", "parts"), [(6, 2), (3, 4)])
def test_a_batch_that_does_not_fit_is_taken_in_parts(holds, parts, error):
    net, rows = Net(), Small(Points(), holds, error)
    log = run(net, rows, how=settings(steps=60))
    assert log.parts == parts
    assert set(rows.seen) == {12 // parts}
    assert len(rows.seen) == parts * len(log.losses)
    assert log.losses[-1] < 0.3 < log.losses[0]


def test_gradients_of_parts_are_those_of_the_whole():
    """Where every draw is the same examples, parts change nothing."""

    def same(size):
        return itertools.cycle(np.arange(12).reshape(-1, size))

    whole, cut = Net(), Net()
    run(whole, sampler=same)
    run(cut, Small(Points(), 6, FULL), sampler=same)
    torch.testing.assert_close(weights(cut), weights(whole), rtol=1e-4, atol=1e-5)


def test_parts_from_the_start_give_what_the_whole_batch_gives():
    """Shuffled batches of half the size are the halves of the whole ones."""
    whole, cut = Net(), Net()
    run(whole)
    log = run(cut, Small(Points(), 6, CPU_FULL), parts=2)
    assert log.parts == 2
    torch.testing.assert_close(weights(cut), weights(whole), rtol=1e-4, atol=1e-5)


def test_memory_may_run_out_in_the_middle_of_a_run():
    rows = Points()
    calls = itertools.count()
    real = rows.batch

    def batch(indices, step, own):
        if next(calls) == 4:
            raise FULL
        return real(indices, step)

    rows.batch = batch
    log = run(Net(), rows)
    assert (len(log.losses), log.parts) == (10, 2)


def test_a_batch_that_never_fits_fails_the_trial():
    with pytest.raises(TrialError, match=r"a batch of 12 .* parts of 3\. Use a"):
        run(Net(), Small(Points(), 2, FULL))


def test_other_errors_are_not_taken_for_lack_of_memory():
    with pytest.raises(RuntimeError, match="shapes"):
        run(Net(), Small(Points(), 2, RuntimeError("shapes differ")))


@pytest.mark.parametrize(("bad", "name"), [(math.nan, "NaN"), (math.inf, "inf")])
def test_a_loss_that_is_no_number_fails_the_trial(bad, name):
    calls = itertools.count(1)

    def loss(logits, labels):
        return cross_entropy(logits, labels) * (bad if next(calls) == 3 else 1.0)

    net = Net()
    with pytest.raises(TrialError, match=f"loss became {name} at step 3 of 12"):
        run(net, loss=loss)
    assert not net.training
    assert torch.isfinite(weights(net)).all()


class Clock:
    """Stands for `time`; each look at it moves it on."""

    def __init__(self, *steps):
        self.now, self.steps = 100.0, itertools.chain(steps, itertools.repeat(1.0))

    def monotonic(self):
        now = self.now
        self.now += next(self.steps)
        return now


def test_a_passed_deadline_stops_and_says_how_far_it_got(monkeypatch):
    for deadline, done in ((99.5, 0), (102.5, 3)):
        monkeypatch.setattr("fewshot_automl.training.loop.time", Clock())
        with pytest.raises(OutOfTime, match=f"after {done} of 10 training steps"):
            run(Net(), deadline=deadline)
    monkeypatch.setattr("fewshot_automl.training.loop.time", Clock())
    assert len(run(Net(), deadline=200.0).losses) == 10


def test_a_hopeless_run_is_given_up_before_its_deadline(monkeypatch):
    # the first step says nothing
    monkeypatch.setattr("fewshot_automl.training.loop.time", Clock(50.0))
    with pytest.raises(OutOfTime, match=r"after 5 of 332 .* needs 327.0 s and 146.0 s"):
        run(Net(), how=settings(steps=400), deadline=300.0)


def test_only_what_requires_a_gradient_changes():
    net = Net()
    net.body.requires_grad_(False)
    before = copy.deepcopy(net.state_dict())
    run(net)
    after = net.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"}


def test_vectors_do_not_decay_and_the_head_has_its_own_rate():
    net = Net()
    how = settings(
        steps=1, learning_rate=0.1, head_learning_rate=0.2, weight_decay=0.5,
        schedule="constant", warmup_fraction=0.0,
    )  # fmt: skip
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    run(net, loss=lambda outputs, _: outputs.sum() * 0.0, how=how)
    for name, parameter in net.named_parameters():
        rate = 0.2 if name.startswith("head") else 0.1
        keeps = 1 - rate * 0.5 if parameter.ndim > 1 else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * keeps)


def test_steps_are_those_of_adamw_with_clipped_gradients_on_a_schedule():
    ours, theirs, rows = Net(), Net(), Points()
    how = settings(steps=5, schedule="linear", max_grad_norm=0.1, weight_decay=0.1)
    run(ours, rows, how=how)
    adamw = torch.optim.AdamW(
        [
            {
                "params": [p for p in theirs.parameters() if (p.ndim > 1) == decays],
                "weight_decay": 0.1 if decays else 0.0,
            }
            for decays in (True, False)
        ]
    )
    batches = shuffled(48, 0)(12)
    for step in range(how.useful_steps):
        for group in adamw.param_groups:
            group["lr"] = 1e-2 * SCHEDULES["linear"](step, 5, 0.1)
        adamw.zero_grad()
        places = next(batches)
        logits = theirs(rows.batch(places, step))
        nn.functional.cross_entropy(logits, rows.labels[places]).backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), 0.1)
        adamw.step()
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=1e-4, atol=1e-6)


def test_a_converged_run_ends_early():
    log = run(Net(), how=settings(steps=300, converged_loss=0.1, schedule="constant"))
    assert len(log.losses) < 300
    assert max(log.losses[-5:]) < 0.1


def test_bfloat16_products_train_too_and_leave_no_trace():
    placement = Placement(device="cpu", precision="bf16")
    rough, exact, again = Net(), Net(), Net()
    run(exact)
    log = run(rough, how=settings(steps=120), placement=placement)
    assert log.losses[-1] < 0.3
    assert all(p.dtype == torch.float32 for p in rough.parameters())
    assert rough({"points": Points().points}).dtype == torch.float32
    run(again)  # after a run of another precision in one process
    assert torch.equal(weights(exact), weights(again))


class Fragile(Net):
    """A net that only 32-bit floats can hold."""

    def forward(self, batch):
        logits = super().forward(batch)
        return logits if logits.dtype == torch.float32 else logits * self.wrong


@pytest.mark.parametrize("wrong", [math.inf, math.nan, 30.0])
def test_a_loss_that_low_precision_gets_wrong_is_computed_in_floats(wrong, caplog):
    exact, fragile = Net(), Fragile()
    fragile.wrong = wrong
    run(exact)
    run(fragile, placement=Placement(device="cpu", precision="bf16"))
    assert torch.equal(weights(exact), weights(fragile))
    (line,) = caplog.messages
    assert "low precision. Training on the CPU in 32-bit floats" in line


@pytest.mark.gpu
def test_float16_products_train_with_scaled_gradients():
    net = Net()
    log = run(
        net,
        how=settings(steps=120),
        placement=Placement(device="cuda:0", precision="fp16"),
    )
    assert log.losses[-1] < 0.3
    assert all(p.dtype == torch.float32 for p in net.parameters())


def test_an_accelerator_of_the_users_own_is_left_as_it_was():
    from accelerate import Accelerator

    theirs = Accelerator(cpu=True, mixed_precision="bf16")
    try:
        run(Net())
        assert theirs.mixed_precision == "bf16"
        assert Accelerator(cpu=True).mixed_precision == "bf16"
    finally:
        theirs.state._reset_state(reset_partial_state=True)


TWO = """
import json, sys
import torch
from accelerate import debug_launcher
from tests.training.test_loop import Net, Points, run, settings, weights
from fewshot_automl.training import Placement, choose_placement

def work():
    assert choose_placement("cpu").processes == 2
    net = Net()
    two = Placement(device="cpu", processes=2)
    log = run(net, how=settings(steps=60, batch_size=11), placement=two)
    rank = torch.distributed.get_rank()
    found = {"weights": weights(net).tolist(), "losses": log.losses}
    open(f"{sys.argv[1]}/{rank}.json", "w").write(json.dumps(found))

if __name__ == "__main__":
    debug_launcher(work, num_processes=2)
"""


def test_two_processes_end_with_the_weights_of_one(tmp_path):
    (tmp_path / "two.py").write_text(TWO)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "two.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    first, second = (
        json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)
    )
    assert first == second
    net = Net()
    log = run(net, how=settings(steps=60, batch_size=11))
    np.testing.assert_allclose(first["weights"], weights(net).tolist(), atol=1e-5)
    np.testing.assert_allclose(first["losses"], log.losses, atol=1e-5)
