from dataclasses import replace

import pytest

from fewshot_automl.adaptation.method import Profile
from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.automl import placing
from fewshot_automl.automl.placing import (
    executor_of,
    place,
    placement_of,
    ranks_of,
    shared_by,
)
from fewshot_automl.automl.settings import Settings
from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.errors import UserError
from fewshot_automl.executors import InProcess
from fewshot_automl.hardware import Device
from fewshot_automl.policy import CostModel, PlacementPlan, Situation, draw_plan
from fewshot_automl.tasks import Task
from fewshot_automl.training import Placement
from fewshot_automl.trial import TrialContext, Workload, space_for

TASK = Task(modality="text", names=("a", "b", "c", "d", "e", "f"))
CPU = Device(kind="cpu", cores=2, memory_bytes=8_000_000_000)
CARD = Device(kind="cuda", memory_bytes=24_000_000_000)


@pytest.fixture
def placed(monkeypatch):
    """Return where a fit with some settings runs on 2 cores that were timed before."""
    monkeypatch.delenv("FEWSHOT_ZOO_PATH", raising=False)
    monkeypatch.setattr(placing, "found_devices", lambda device, cores: [CPU])
    monkeypatch.setattr(placing, "usable_cores", lambda: 2)
    cards = (Zoo.known()["minilm-l6"],)
    workload = Workload(cards=cards, examples=48, characters=50.0, rate=1.2e11)

    def run(times=(1.0, 0.55), devices=None, imports=4.0, **settings):
        def timed(*_):
            assert times is not None, "nothing should be timed"
            return times

        monkeypatch.setattr(placing, "step_seconds", timed)
        situation = Situation(
            costs=CostModel(arithmetic=workload),
            space=space_for(Profile(task=TASK, strata=(8,) * 6), cards),
            methods=tuple(METHODS.values()),
            budget_seconds=300.0,
            spent_seconds=4.0,
        )
        plan = draw_plan(situation)
        context = object.__new__(TrialContext)  # only its backbones would be timed
        return place(
            Settings(**settings), situation, plan, context, workload, imports, devices
        )

    return run


def test_a_cpu_is_timed_and_used_as_that_says(placed):
    assert placed((1.0, 0.55)).executor == "loky"
    assert placed((1.0, 0.95)).executor == "in_process"


@pytest.mark.parametrize(
    ("settings", "executor", "workers"),
    [
        ({"workers": 2}, "loky", 2),
        ({"workers": 1}, "in_process", 1),
        ({"executor": "in_process"}, "in_process", 1),
        ({"executor": "loky", "workers": 1}, "loky", 1),
        ({"executor": "ray", "workers": 16}, "ray", 16),
        ({"processes": 2}, "ranks", 1),
    ],
)
def test_what_is_asked_for_needs_no_timing(placed, settings, executor, workers):
    where = placed(None, **settings)
    assert (where.executor, where.workers) == (executor, workers)


def test_a_machine_that_is_slow_to_import_starts_no_workers(placed):
    assert placed(None, imports=70.0).executor == "in_process"


def test_what_is_asked_for_is_said(placed):
    assert placed(executor="loky").reason == placed().reason
    assert (
        "one trial at a time, as asked" in placed((1.0, 0.95), executor="loky").reason
    )
    ray = placed(executor="ray", workers=16)
    assert ray.reason == "Ray: 16 trials side by side, as asked."


def test_auto_may_be_said(placed):
    assert placed(executor="auto") == placed()


def test_a_worker_process_starts_no_workers(placed, monkeypatch):
    monkeypatch.setattr(placing, "parent_process", lambda: "somebody")
    where = placed(None)
    assert where.executor == "in_process"
    assert "this is a worker process" in where.reason


def test_described_devices_need_no_timing(placed):
    where = placed(None, devices=[CARD, CARD, CPU])
    assert (where.device, where.cards) == ("cuda", (0,))
    assert "choosing the next takes longer" in where.reason  # than a trial there


def test_workers_are_given_the_gpus_of_the_plan(monkeypatch):
    given = []

    def made(name, workers, gpus, address=None):
        given.append(gpus)
        return InProcess()

    monkeypatch.setattr(placing, "shared_gpus", lambda device: 3 * (device is None))
    monkeypatch.setattr(placing, "executor_named", made)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    plan = PlacementPlan(executor="loky", device="cuda", cards=(1, 2), reason="")
    executor_of(plan, Settings())
    executor_of(plan, Settings(device="cuda:1"))  # which a worker would not know
    assert given == [(1, 2), ()]
    assert ranks_of(plan) is None
    ranks = ranks_of(replace(plan, processes=2))  # for the final fit
    told = [one.variables["CUDA_VISIBLE_DEVICES"] for one in ranks._workers]
    assert told == ["1", "2"]
    with pytest.raises(UserError, match="with a GPU each, of which there are 2, got 3"):
        ranks_of(replace(plan, processes=3))


def test_processes_of_a_plan_share_every_training_or_the_final_fit(monkeypatch):
    monkeypatch.setattr(placing, "weights_room", lambda device, shares: 7 * shares)
    alone = Placement(device="cuda:0")
    plan = PlacementPlan(
        executor="ranks", device="cuda", processes=4, is_sharded=True, reason=""
    )
    shared = Placement(device="cuda:0", processes=4, is_sharded=True)
    assert placement_of(plan, alone) == shared
    assert placement_of(replace(plan, is_offloaded=True), alone).weights_bytes == 7
    last = replace(plan, executor="loky", workers=4)
    assert placement_of(last, alone) == alone
    assert shared_by(last, alone) == shared


def test_a_card_too_small_leaves_the_cpu():
    plan = PlacementPlan(executor="in_process", device="cpu", reason="")
    assert placement_of(plan, Placement(device="cuda:0")).device == "cpu"
    assert placement_of(plan, Placement(device="cpu")) == Placement(device="cpu")
