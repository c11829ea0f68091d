import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from fewshot_automl.training.settings import IDLE_SHARE, SCHEDULES, TrainingSettings


def optimiser():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def rates(scheduler, optimizer, steps):
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def ours(name, steps, warmup):
    return [SCHEDULES[name](step, steps, warmup) for step in range(steps)]


def warmed(optimizer, after, warm):
    if warm == 0:
        return after
    rise = lr_scheduler.LinearLR(optimizer, 1 / (warm + 1), 1.0, total_iters=warm)
    # torch's own SequentialLR steps with an argument that it deprecates
    return lr_scheduler.SequentialLR(optimizer, [rise, after], milestones=[warm])


@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step")
@pytest.mark.parametrize("steps", [2, 10, 41])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.3])
def test_agrees_with_torch(steps, warmup):
    warm = int(steps * warmup)
    after = {
        "constant": lambda o: lr_scheduler.ConstantLR(o, 1.0, total_iters=0),
        "linear": lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, steps - warm),
        "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, steps - warm),
    }
    for name, make in after.items():
        optimizer = optimiser()
        scheduler = warmed(optimizer, make(optimizer), warm)
        expected = rates(scheduler, optimizer, steps)
        assert ours(name, steps, warmup) == pytest.approx(expected, abs=1e-6), name


@pytest.mark.parametrize("steps", [2, 11, 41, 200])
@pytest.mark.parametrize("warmup", [0.05, 0.1, 0.3, 0.6])
def test_one_cycle_agrees_with_torch(steps, warmup):
    optimizer = optimiser()
    scheduler = lr_scheduler.OneCycleLR(
        optimizer, 1.0, total_steps=steps, pct_start=warmup, cycle_momentum=False
    )
    expected = []
    for step in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step + 1 < steps:
            scheduler.step()
    assert ours("one_cycle", steps, warmup) == pytest.approx(expected, abs=1e-9)


@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    steps=st.integers(1, 300),
    warmup=st.floats(0, 0.99),
)
def test_stays_in_bounds_and_reaches_the_peak(name, steps, warmup):
    rates = ours(name, steps, warmup)
    assert all(0 < rate <= 1 for rate in rates)
    if name != "one_cycle" and warmup == 0:
        assert max(rates) == 1
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
@pytest.mark.parametrize("steps", [1, 2, 10, 40, 160])
def test_steps_left_out_are_worth_a_hundredth_of_the_run(schedule, steps):
    useful = TrainingSettings(
        steps=steps, batch_size=8, learning_rate=1e-3, schedule=schedule
    ).useful_steps
    rates = ours(schedule, steps, 0.1)
    assert 1 <= useful <= steps
    assert sum(rates[useful:]) <= IDLE_SHARE * sum(rates)
    assert all(rate < max(rates) / 10 for rate in rates[useful:])
    if schedule == "constant":
        assert useful == steps
    if schedule == "one_cycle" and steps == 40:
        assert useful == 33
