import dataclasses

import pytest
from fewshot_automl.automl.thrift import Thrifty, affordable_space, shortened
from fewshot_automl.trial.design import is_dear, space_for
from fewshot_automl.trial.forecast import Forecast

from fewshot_automl.adaptation.method import Profile
from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.oracle.goals import Limit
from fewshot_automl.oracle.sobol import SobolOracle
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config
from fewshot_automl.tasks import Task
from fewshot_automl.trial.workload import Workload

NAMES = ("minilm-l3", "minilm-l6", "mpnet-base")
PAID = Outcome(status="running")


@pytest.fixture(scope="module")
def cards():
    zoo = Zoo.known()
    return tuple(zoo[name] for name in NAMES)


@pytest.fixture(scope="module")
def space(cards):
    task = Task(modality="text", names=("a", "b", "c"))
    return space_for(Profile(task=task, class_counts=(8,) * 3), cards)


@pytest.fixture(scope="module")
def forecast(cards):
    return Forecast(
        workload=Workload(
            cards=cards,
            examples=24,
            characters=50.0,
            rate=1e11,
            quick_fits=12,
            dear_fits=4,
        )
    )


@pytest.fixture(scope="module")
def probed(space):
    return [(space.default(method="probe", backbone=name), PAID) for name in NAMES]


def thrifty(forecast, left, dear_seconds=None, oracle=None):
    return Thrifty(
        oracle=oracle or SobolOracle(),
        forecast=forecast,
        dear_seconds=dear_seconds,
        seconds_left=lambda history: left,
    )


@pytest.mark.parametrize("left", [1.0, 3.0, 8.0, 20.0, 100.0, float("inf")])
def test_everything_suggested_can_be_paid_for(space, forecast, probed, left):
    found = thrifty(forecast, left).suggest(space, probed, 20, 0)
    prices = forecast.after(probed)
    assert found
    for config in found:
        space.validate(config)
        assert prices.trial_seconds(config) <= left
    assert len(set(found)) == len(found)


def test_what_is_left_is_still_used_for_training(space, forecast, probed):
    found = thrifty(forecast, 6.0).suggest(space, probed, 20, 0)
    assert any(is_dear(config) for config in found)


def test_with_little_time_left_methods_that_train_are_not_suggested(
    space, forecast, probed
):
    found = thrifty(forecast, 0.9).suggest(space, probed, 10, 0)
    assert found
    assert not any(is_dear(config) for config in found)


def test_without_time_nothing_is_suggested(space, forecast, probed):
    assert thrifty(forecast, -1.0).suggest(space, probed, 3, 0) == []


def test_what_is_left_out_for_want_of_time_is_not_exhausted(space, forecast, probed):
    assert thrifty(forecast, -1.0).leaves_out(space, probed)
    assert thrifty(forecast, 0.9).leaves_out(space, probed)
    assert not thrifty(forecast, float("inf")).leaves_out(space, probed)
    quick = space.narrow("method", ["probe"])
    assert not thrifty(forecast, 100.0).leaves_out(quick, probed)


def test_no_trial_may_take_more_than_planned(space, forecast, probed):
    found = thrifty(forecast, 1000.0, dear_seconds=8.0).suggest(space, probed, 20, 0)
    prices = forecast.after(probed)
    assert all(prices.trial_seconds(config) <= 8.0 for config in found)


def test_a_plan_without_dear_trials_leaves_quick_ones(space, forecast, probed):
    found = thrifty(forecast, 30.0, dear_seconds=0.0).suggest(space, probed, 10, 0)
    assert found


def test_steps_are_bounded_by_what_a_default_trial_may_cost(space, forecast, probed):
    prices = forecast.after(probed)
    bounds = [
        affordable_space(space, prices, probed, limit)["steps"].high
        for limit in (4.0, 8.0, 16.0, 500.0)
    ]
    assert bounds == sorted(bounds)
    assert bounds[0] < bounds[2]
    assert bounds[-1] == space["steps"].high


def test_backbones_whose_cheapest_form_is_too_dear_are_left_out(
    space, forecast, probed
):
    dear = space.narrow("method", ["contrastive", "full"])
    prices = forecast.after(probed)
    kept = affordable_space(dear, prices, probed, 1.5)["backbone"].options
    assert "minilm-l3" in kept
    assert "mpnet-base" not in kept


def test_a_suggestion_is_shortened_no_more_than_needed(space, forecast, probed):
    prices = forecast.after(probed)
    config = space.default(method="contrastive", steps=160, batch_size=64)
    whole = prices.trial_seconds(config)
    found = shortened(space, config, prices, 0.5 * whole)
    assert 0.45 * whole < prices.trial_seconds(found) <= 0.5 * whole
    assert found["batch_size"] == 64
    assert found["steps"] < 160
    assert shortened(space, config, prices, whole) == config
    assert shortened(space, config, prices, 1e-3) is None


def test_a_quick_suggestion_cannot_be_shortened(space, forecast):
    config = Config.of({"method": "tfidf"})
    assert shortened(space, config, forecast.after([]), 1e-3) is None


def test_a_narrowed_space_stays_narrowed(space, forecast, probed):
    narrowed = space.narrow("method", ["lora"]).narrow("backbone", ["minilm-l6"])
    found = thrifty(forecast, 10.0).suggest(narrowed, probed, 5, 0)
    for config in found:
        narrowed.validate(config)
    assert found


@pytest.mark.parametrize("left", [6.0, 10.0, 20.0])
def test_one_suggestion_is_found_whatever_the_seed(space, forecast, probed, left):
    """A study ends when nothing is suggested, so the first refusal must not be it."""
    oracle = thrifty(forecast, left, dear_seconds=8.5)
    for seed in range(15):
        assert len(oracle.suggest(space, probed, 1, seed)) == 1


def test_an_oracle_that_insists_on_the_dear_is_asked_by_method(space, forecast, probed):
    wanted = space.default(method="full", backbone="mpnet-base", steps=160)

    class Stubborn(SobolOracle):
        def suggest(self, space, history, n, seed, within=None):
            if within is not None and within.contains(wanted):
                return [wanted]
            return super().suggest(space, history, n, seed, within)

    found = thrifty(forecast, 3.0, oracle=Stubborn()).suggest(space, probed, 1, 0)
    assert len(found) == 1
    assert found != [wanted]


LISTED = ("minilm-l3", "mpnet-base")


def slow(backbone, space):
    outcome = Outcome(status="done", mean=0.5, measures={"latency_ms": 9.0})
    return space.default(method="probe", backbone=backbone), outcome


def test_a_list_keeps_the_limits_as_a_space_does(space, forecast):
    pool = [space.default(method="prototype", backbone=name) for name in LISTED]
    history = [slow("minilm-l3", space)]
    oracle = dataclasses.replace(
        thrifty(forecast, 100.0), limits=(Limit("latency_ms", most=5.0),)
    )
    assert oracle.suggest(space, history, 2, 0, pool) == pool[1:]
    every = [slow(name, space) for name in LISTED]
    assert set(oracle.suggest(space, every, 2, 0, pool)) == set(pool)


def test_of_a_list_only_what_can_be_paid_is_suggested(space, forecast, probed):
    quick = space.default(method="prototype", backbone="minilm-l3")
    dear = space.default(method="full", backbone="mpnet-base", steps=160)
    oracle = thrifty(forecast, 3.0)
    assert oracle.suggest(space, probed, 2, 0, [dear, quick]) == [quick]
    assert oracle.suggest(space, probed, 2, 0, [dear]) == []
