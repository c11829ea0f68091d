import copy
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from fewshot_automl.errors import OutOfTime, ShapeError, TrialError, UserError
from fewshot_automl.training import (
    Placement,
    TrainingSettings,
    balanced,
    cross_entropy,
    shuffled,
    supervised_contrastive,
    train,
)
from fewshot_automl.training.optimiser import Optimiser
from fewshot_automl.training.schedules import SCHEDULES

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

    def batch(self, indices, step):
        return {"points": self.points[indices]}


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
    net, rows=None, loss=cross_entropy, sampler=None, told=None, placement=CPU, **extra
):
    rows, told = rows or Points(), told or settings()
    sampler = sampler or shuffled(len(rows), told.batch_size, told.seed)
    return train(net, rows, rows.labels, loss, sampler, told, placement, **extra)


def weights(net):
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()])


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_a_small_net_learns(schedule):
    net, rows = Net(dropout=0.1), Points()
    log = run(net, rows, told=settings(steps=120, schedule=schedule))
    assert log.steps == settings(steps=120, schedule=schedule).useful_steps
    assert log.losses[-1] < 0.3 < log.losses[0]
    assert (net({"points": rows.points}).argmax(1) == rows.labels).float().mean() > 0.95
    assert not net.training
    assert all(p.grad is None for p in net.parameters())
    assert (log.best_step, log.parts) == (None, 1)
    assert log.seconds > 0


def test_contrastive_training_pulls_classes_together():
    net, rows = Net(), Points()
    sampler = balanced(rows.labels.numpy(), 12, 0)
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
    sampler = shuffled(48, 12, 0)
    run(other, sampler=sampler, told=settings(seed=1))
    assert torch.equal(weights(first), weights(other)) == (dropout == 0)


class Small:
    """Rows on a device that holds only so many examples."""

    def __init__(self, rows, holds, error):
        self.rows, self.holds, self.error = rows, holds, error
        self.labels = rows.labels

    def __len__(self):
        return len(self.rows)

    def batch(self, indices, step):
        if len(indices) > self.holds:
            raise self.error
        return self.rows.batch(indices, step)


FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize("loss", [cross_entropy, supervised_contrastive])
@pytest.mark.parametrize(("holds", "parts"), [(6, 2), (3, 4)])
@pytest.mark.parametrize("error", [FULL, MemoryError()])
def test_a_batch_in_parts_gives_the_weights_of_the_whole(loss, holds, parts, error):
    whole, cut = Net(), Net()
    log = run(whole, loss=loss)
    small = run(cut, Small(Points(), holds, error), loss=loss)
    assert small.parts == parts
    np.testing.assert_allclose(small.losses, log.losses, rtol=1e-5)
    torch.testing.assert_close(weights(cut), weights(whole), rtol=1e-4, atol=1e-5)


def test_parts_are_run_twice_with_the_same_dropout():
    class Remembers(Net):
        def __init__(self):
            super().__init__(dropout=0.5)
            self.drops = []
            self.body.register_forward_hook(
                lambda _m, _i, out: self.drops.append((out == 0).clone())
            )

    net = Remembers()
    run(net, Small(Points(), 6, FULL), told=settings(steps=1))
    first, second, again, more = net.drops
    assert torch.equal(first, again)
    assert torch.equal(second, more)
    assert not torch.equal(first, second)


def test_a_batch_that_never_fits_fails_the_trial():
    with pytest.raises(
        TrialError, match=r"step 1: a batch of 12 .* smaller batch_size"
    ):
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
    now = 100.0

    def monotonic(self):
        return self.now


def test_a_passed_deadline_stops_and_says_how_far_it_got(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("fewshot_automl.training.loop.time", clock)

    def tick(step, _):
        clock.now += 1

    with pytest.raises(OutOfTime, match="after 0 of 10 training steps"):
        run(Net(), deadline=99.0)
    with pytest.raises(OutOfTime, match="after 3 of 10 training steps"):
        run(Net(), deadline=103.0, on_step=tick)
    assert run(Net(), deadline=200.0, on_step=tick).seconds == 10


def test_a_hopeless_run_is_given_up_before_its_deadline(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("fewshot_automl.training.loop.time", clock)

    def tick(step, _):
        clock.now += 50 if step == 1 else 1  # the first step tells nothing

    with pytest.raises(OutOfTime, match=r"after 5 of 332 .* needs 327.0 s and 146.0 s"):
        run(Net(), told=settings(steps=400), deadline=300.0, on_step=tick)


def test_each_step_is_told():
    told = []
    log = run(Net(), on_step=lambda step, loss: told.append((step, loss)))
    assert told == list(enumerate(log.losses, start=1))


def test_only_what_requires_a_gradient_changes():
    net = Net()
    net.body.requires_grad_(False)
    before = copy.deepcopy(net.state_dict())
    run(net)
    after = net.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"}
    net.requires_grad_(False)
    with pytest.raises(TrialError, match="requires a gradient"):
        run(net)


def test_vectors_do_not_decay_and_the_head_has_its_own_rate():
    net = Net()
    told = settings(
        learning_rate=0.1, head_learning_rate=0.2, weight_decay=0.5,
        schedule="constant", warmup_fraction=0.0,
    )  # fmt: skip
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimiser = Optimiser(net, told)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step(0)
    for name, parameter in net.named_parameters():
        rate = 0.2 if name.startswith("head") else 0.1
        keeps = 1 - rate * 0.5 if parameter.ndim > 1 else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * keeps)


@pytest.mark.parametrize("limit", [0.5, math.inf])
def test_long_gradients_are_shortened(limit):
    net = nn.Linear(2, 2, bias=False)
    optimiser = Optimiser(net, settings(max_grad_norm=limit))
    net.weight.grad = torch.full((2, 2), 5.0)
    optimiser.step(0)
    assert net.weight.grad.norm() == pytest.approx(min(limit, 10.0))


def test_the_best_weights_are_kept():
    net = Net()
    seen = {}
    scores = iter([0.1, 0.9, 0.9, 0.2])

    def validate():
        assert not net.training
        score = next(scores)
        seen[len(seen) + 1] = weights(net)
        return score

    log = run(net, told=settings(validate_every=3), validate=validate)
    assert (log.best_step, log.best_score) == (9, 0.9)
    assert torch.equal(weights(net), seen[3])
    assert not torch.equal(seen[3], seen[4])


def test_without_a_rhythm_only_the_last_step_is_validated():
    log = run(Net(), validate=lambda: 0.5)
    assert (log.best_step, log.best_score) == (10, 0.5)


def test_a_converged_run_ends_early():
    log = run(Net(), told=settings(steps=300, converged_loss=0.1, schedule="constant"))
    assert log.steps < 300
    assert max(log.losses[-5:]) < 0.1


def test_bfloat16_products_train_too():
    placement = Placement(device="cpu", mixed_precision="bf16")
    net = Net()
    log = run(net, told=settings(steps=120), placement=placement)
    assert log.losses[-1] < 0.3
    assert all(p.dtype == torch.float32 for p in net.parameters())


def test_labels_must_be_one_a_row():
    rows = Points()
    rows.labels = rows.labels[:-1]
    with pytest.raises(ShapeError, match="48 in all, got 47"):
        run(Net(), rows)


class Halves(Net):
    def forward(self, batch):
        return super().forward(batch)[::2]


def test_outputs_must_be_one_an_example():
    with pytest.raises(ShapeError, match="must return 12 rows, got 6"):
        run(Halves())


def test_a_loss_must_be_a_scalar():
    with pytest.raises(ShapeError, match="must be a scalar"):
        run(Net(), loss=lambda logits, _: logits)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("head_learning_rate", -1.0),
        ("weight_decay", -0.1),
        ("warmup_fraction", 1.0),
        ("max_grad_norm", 0.0),
        ("schedule", "cosin"),
    ],
)
def test_settings_name_the_field_that_is_wrong(field, value):
    with pytest.raises(UserError, match=field.split("_")[-1]):
        settings(**{field: value})
