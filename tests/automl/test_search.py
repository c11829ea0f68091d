from dataclasses import replace

import pytest

from fewshot_automl.adaptation.method import Profile
from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.automl.search import _checked_place, settled_plan
from fewshot_automl.automl.settings import Settings
from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.errors import UserError
from fewshot_automl.ledger import Ledger
from fewshot_automl.policy import CostModel, Situation, draw_plan
from fewshot_automl.tasks import Task
from fewshot_automl.trial import Workload, space_for

NAMES = ("minilm-l6", "mpnet-base")
TASK = Task(modality="text", names=("a", "b", "c", "d", "e", "f"))


@pytest.fixture(autouse=True)
def at_home(monkeypatch):
    """Plan with the backbones that come with the package."""
    monkeypatch.delenv("FEWSHOT_ZOO_PATH", raising=False)


def situation(seconds=60.0, names=NAMES, rate=1.2e11, **more):
    zoo = Zoo.known()
    cards = tuple(zoo[name] for name in names)
    workload = Workload(cards=cards, examples=48, characters=50.0, rate=rate)
    return Situation(
        costs=CostModel(arithmetic=workload),
        space=space_for(Profile(task=TASK, strata=(8,) * 6), cards),
        methods=tuple(METHODS.values()),
        budget_seconds=seconds,
        spent_seconds=4.0,
        **more,
    )


def settled(folder, now):
    return settled_plan(Ledger.open(folder, study="s", space=now.space), now)


def test_real_methods_and_backbones_are_planned_for_on_two_cores():
    plan = draw_plan(situation(60.0))
    assert set(plan.backbones) == set(NAMES)
    assert plan.first_trained == "contrastive"
    assert (plan.training_folds, plan.splits.folds) == (2, 4)
    assert plan.training_trials >= 1
    first = situation(60.0).forms("minilm-l6")[0]
    assert (first.text("method"), first["frozen_fraction"]) == ("contrastive", 0.5)


def test_scoring_that_makes_a_result_late_is_known_beforehand():
    assert situation(60.0).scoring_seconds == 0
    assert situation(60.0, tested=100_000).scoring_seconds > 0.25 * 60


def test_a_resumed_study_keeps_its_plan(tmp_path):
    first = settled(tmp_path, situation())
    other = replace(situation(rate=1e13), spent_seconds=40.0)
    assert settled(tmp_path, other) == first


def test_a_raised_budget_makes_a_new_plan_with_the_same_folds(tmp_path):
    first = settled(tmp_path, situation(30.0))
    raised = settled(tmp_path, situation(3600.0))
    assert raised.splits == first.splits
    assert raised.trial_seconds > first.trial_seconds
    assert settled(tmp_path, situation(3600.0)) == raised


def test_more_trials_make_a_new_plan_where_only_they_are_limited(tmp_path):
    few = settled(tmp_path, situation(None, trials=8))
    assert settled(tmp_path, situation(None, trials=8)) == few
    many = settled(tmp_path, situation(None, trials=80))
    assert len(few.backbones) == 1 < len(many.backbones)
    assert many.splits == few.splits


def test_a_backbone_that_is_gone_makes_a_new_plan_with_the_same_folds(tmp_path):
    first = settled(tmp_path, situation(30.0))
    plan = settled(tmp_path, situation(30.0, NAMES[1:]))
    assert set(plan.backbones) <= set(NAMES[1:])
    assert plan.splits == first.splits


def test_a_study_is_not_run_by_other_processes_than_were_asked_for(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    asked = Settings(device="cpu", processes=2)
    assert _checked_place(asked).processes == 2
    # So does accelerate launch --cpu --num_processes 2, and starts one.
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(UserError, match="for several processes and started one"):
        _checked_place(Settings(device="cpu"))
    assert _checked_place(asked).processes == 2
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert _checked_place(Settings(device="cpu")).processes == 4
    for other in (asked, replace(asked, processes=None, executor="loky")):
        with pytest.raises(UserError, match="launcher's 4 processes"):
            _checked_place(other)
