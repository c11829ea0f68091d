import itertools
import json
import math
from dataclasses import replace

import pytest
from policy_numbers import FLOPS, situation

from fewshot_automl.policy import Plan, Splits, draw_plan

SLOW, USUAL, FAST = 1.5e10, 9e10, 1e13
"""An old core, two good cores, a GPU: operations per second."""
CASES = [
    (examples, rate, seconds)
    for examples in (16, 48, 1024)
    for rate in (SLOW, USUAL, FAST)
    for seconds in (30.0, 60.0, 120.0, 3600.0)
]


@pytest.mark.parametrize(("examples", "rate", "seconds"), CASES)
def test_a_plan_spends_what_it_has_and_no_more(examples, rate, seconds):
    now = situation(seconds, rate, examples)
    plan = draw_plan(now)
    left = seconds - now.spent_seconds
    assert 3 <= plan.splits.folds <= 5
    assert set(plan.backbones) <= set(FLOPS)
    is_single = len(plan.backbones) == 1
    spent = plan.rung_zero_seconds + plan.final_seconds
    assert spent < left or is_single  # one backbone is tried whatever it costs
    assert is_single or plan.rung_zero_seconds <= 0.3 * left
    assert 0 <= plan.trial_seconds <= 0.6 * left
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert "\n" not in str(plan)


@pytest.mark.parametrize("rate", [SLOW, USUAL, FAST])
def test_more_time_never_buys_less(rate):
    budgets = (15.0, 30.0, 60.0, 120.0, 600.0, 3600.0, 36000.0)
    plans = [draw_plan(situation(seconds, rate)) for seconds in budgets]
    for less, more in itertools.pairwise(plans):
        assert set(less.backbones) <= set(more.backbones)
        assert less.splits.folds <= more.splits.folds
        assert less.splits.repeats <= more.splits.repeats
        assert less.members <= more.members
    assert len(plans[-1].backbones) == len(FLOPS)


@pytest.mark.parametrize(
    ("seconds", "folds", "least", "backbones", "filling", "words"),
    [
        (60.0, 2, 1, 1, 0, "1 training trial, contrastive first"),
        (120.0, 2, 2, 1, 0, "with 2 of 4 folds or more"),
        (300.0, 4, 4, 2, 1, "with 4 folds in at most"),
        (1800.0, 5, 12, 2, 3, "with 5 folds in at most"),
    ],
)
def test_more_time_buys_folds_then_methods_then_a_search(
    seconds, folds, least, backbones, filling, words
):
    now = situation(seconds)
    plan = draw_plan(now)
    assert set(plan.backbones) == set(FLOPS)
    assert plan.training_folds == folds
    assert plan.training_trials >= least
    assert plan.training_backbones == backbones
    assert plan.space_filling == filling
    assert words in str(plan)
    # The strongest backbone can be trained and fitted finally, too.
    cheapest = now.costs.refit_seconds(now.forms("large")[-1])
    assert folds * cheapest <= plan.trial_seconds
    assert plan.final_seconds > cheapest


def test_a_fast_machine_scores_training_trials_twice_where_examples_are_few():
    assert draw_plan(situation(3600.0, 100 * FAST)).splits.training_repeats == 2
    many = situation(3600.0, 1e4 * FAST, examples=128)
    assert draw_plan(many).splits.training_repeats == 1


def test_many_examples_on_a_slow_machine_get_one_backbone_and_no_illusions():
    plan = draw_plan(situation(30.0, SLOW / 5, examples=2048))
    assert plan.backbones == ("small",)
    assert plan.training_trials == 0
    assert "time for training trials" in str(plan)


def test_costly_baselines_alone_have_fewer_folds():
    now = situation(60.0, examples=5000)
    plain = replace(now, space=now.space.narrow("method", ["majority"]))
    assert draw_plan(plain).splits.folds == 5
    dear = replace(now.costs, effects={("head",): math.log(500)})
    plan = draw_plan(replace(plain, costs=dear))
    assert plan.splits.folds == 3
    assert plan.splits.training_repeats == 1


def test_test_data_are_paid_for_and_do_not_starve_the_search():
    plain, tested, large = (draw_plan(situation(tested=n)) for n in (0, 500, 1_000_000))
    assert tested.final_seconds > plain.final_seconds + 1
    assert tested.trial_seconds <= plain.trial_seconds
    assert large.final_seconds < 0.6 * 60
    assert large.training_trials >= 1


def test_without_a_limit_of_time_nothing_is_bounded():
    plan = draw_plan(situation(None))
    assert plan.trial_seconds is plan.rung_zero_seconds is None
    assert plan.splits == Splits(folds=4, repeats=5)
    assert set(plan.backbones) == set(FLOPS)
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(("trials", "expected"), [(1, 1), (8, 1), (18, 2), (90, 3)])
def test_few_trials_are_not_all_spent_on_rung_zero(trials, expected):
    plan = draw_plan(situation(None, trials=trials))
    assert len(plan.backbones) == expected
    assert "middle" in plan.backbones


def test_time_that_is_gone_is_not_planned():
    plan = draw_plan(situation(10.0, spent_seconds=50.0))
    assert plan.trial_seconds == 0
    assert "hardly time for training trials" in str(plan)
    assert math.isfinite(plan.final_seconds)


def test_a_plan_of_another_version_is_read():
    plan = draw_plan(situation(60.0))
    noted = {**plan.to_json(), "stray": 3}
    del noted["space_filling"], noted["training_folds"], noted["first_trained"]
    assert Plan.from_json(noted).trial_seconds == plan.trial_seconds
    assert Plan.from_json({}) == Plan(budget_seconds=None)


def test_what_is_asked_for_bounds_the_plan():
    assert draw_plan(situation(3600.0, most_folds=2)).splits.folds == 2
    assert draw_plan(situation(3600.0)).members == 5
    assert draw_plan(situation(3600.0, members=1)).members == 1
    plan = draw_plan(situation(methods=("probe", "majority")))
    assert plan.trial_seconds is None
    assert "training" not in str(plan)
    for seconds in (60.0, None):
        assert draw_plan(situation(seconds, methods=("majority",))).backbones == ()
