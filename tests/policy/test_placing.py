"""Where trials run: every machine of docs/machines.py, and what overrides."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from fewshot_automl.hardware import Device, Forecast
from fewshot_automl.policy import plan_placement

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("machines", ROOT / "docs/machines.py")
machines = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(machines)
GB = machines.GB

# executor, workers, of them on a GPU, GPUs, processes of a training
EXPECTED = {
    "laptop, 2 cores": ("loky", 2, 1, 0, 1),
    "the same in a minute": ("in_process", 1, 1, 0, 1),
    "little memory": ("in_process", 1, 1, 0, 1),
    "workstation, 16 cores": ("loky", 16, 1, 0, 1),
    "Apple": ("in_process", 1, 1, 0, 1),
    "8 GB card": ("loky", 2, 2, 1, 1),
    "24 GB card": ("loky", 4, 4, 1, 1),
    "four cards": ("loky", 16, 4, 4, 1),
    "four cards, no memory figure": ("loky", 4, 1, 4, 1),
    "eight cards": ("loky", 16, 2, 8, 1),
    "eight cards, one trial too long": ("ranks", 1, 1, 8, 8),
    "eight cards, a day": ("loky", 8, 1, 8, 8),
    "mixed cards": ("loky", 4, 2, 2, 1),
    "mixed cards, one too small": ("in_process", 1, 1, 1, 1),
    "batch too large": ("in_process", 1, 1, 1, 1),
    "card too small to train": ("in_process", 1, 1, 1, 1),
    "card too small, two hours": ("loky", 4, 1, 0, 1),
    "card too small for the weights": ("in_process", 1, 1, 1, 1),
    "two cards, training too large": ("ranks", 1, 1, 2, 2),
    "two nodes": ("ray", 16, 1, 8, 1),
}
NEED = Forecast(
    memory_bytes=GB // 2, weights_bytes=GB // 10, trained_bytes=GB // 20, seconds=8.0
)
LAPTOP = [Device(kind="cpu", cores=2, memory_bytes=8 * GB)]
CARDS = [Device(kind="cuda", memory_bytes=24 * GB)] * 2


@pytest.mark.parametrize("machine", machines.MACHINES, ids=lambda row: row.name)
def test_simulated_machines(machine):
    plan = machine.plan
    found = (plan.executor, plan.workers, plan.workers_a_gpu, len(plan.cards))
    assert (*found, plan.processes) == EXPECTED[machine.name]
    assert plan.is_sharded == ("two cards" in machine.name)
    assert plan.is_offloaded == ("for the weights" in machine.name)
    assert plan.reason.endswith(".")
    assert "\n" not in plan.reason


def test_threads_that_help_leave_one_trial_at_a_time():
    def plan(side_by_side):
        return plan_placement(LAPTOP, [NEED], 300.0, side_by_side=side_by_side)

    assert plan(1.8).workers == 2
    assert plan(1.05).workers == 1
    assert "2 side by side would do 1.1 times as many" in plan(1.1).reason


@pytest.mark.parametrize(
    ("trials", "workers", "words"),
    [(3, 1, "few are asked for"), (4, 1, "to start"), (40, 2, "1.2 times")],
)
def test_few_trials_do_not_pay_for_workers(trials, workers, words):
    plan = plan_placement(LAPTOP, [NEED], None, trials=trials, fits=1)
    assert plan.workers == workers
    assert words in plan.reason


def test_where_choosing_takes_as_long_as_a_trial_workers_win_little():
    quick = replace(NEED, seconds=0.05)
    assert plan_placement(LAPTOP, [quick], 300.0).workers == 1


def test_where_nothing_is_trained_nothing_starts():
    assert plan_placement(LAPTOP, [], 300.0).executor == "in_process"
    assert plan_placement(CARDS, [], 300.0).workers == 1


def test_what_no_gpu_holds_does_not_keep_others_from_it():
    huge = replace(NEED, memory_bytes=90 * GB, weights_bytes=80 * GB)
    plan = plan_placement(CARDS, [NEED, huge], 300.0)
    assert plan.workers == 8
    assert "1 training of those planned, of up to 90 GB, will not fit." in plan.reason


def test_weights_that_do_not_fit_are_read_in_parts():
    huge = replace(NEED, memory_bytes=90 * GB, weights_bytes=30 * GB)
    plan = plan_placement(CARDS, [NEED, huge], 300.0)
    assert plan.is_offloaded
    assert "Weights of 30 GB do not fit: each batch reads some" in plan.reason
    frozen = replace(huge, trained_bytes=0, seconds=0.0)
    plan = plan_placement(LAPTOP, [frozen], 300.0)
    assert plan.is_offloaded
    # Ray's workers are on machines that nobody described.
    assert not plan_placement(
        LAPTOP, [NEED], 9.0, workers=99, executor="ray"
    ).is_offloaded
    assert plan_placement(LAPTOP, [NEED], 9.0, workers=99).is_offloaded


def test_the_larger_of_mixed_cards_is_used_by_its_number():
    small = Device(kind="cuda", memory_bytes=2 * GB)
    need = replace(NEED, memory_bytes=12 * GB)
    assert plan_placement([small, CARDS[0]], [need], 300.0).cards == (1,)


@pytest.mark.parametrize(
    ("asked", "executor", "words"),
    [
        ({"workers": 3}, "loky", "3 trials side by side, as asked."),
        ({"workers": 1}, "in_process", "one trial at a time, as asked."),
        ({"processes": 2}, "ranks", "2 processes share each training, as asked."),
    ],
)
def test_what_is_asked_for_is_done(asked, executor, words):
    plan = plan_placement(CARDS, [NEED], 300.0, **asked)
    assert plan.executor == executor
    assert plan.cards == (0, 1)
    assert words in plan.reason
