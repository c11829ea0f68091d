"""Several goals and limits, from a history to the next Config."""

import itertools
import logging

import numpy as np
import pytest
from fewshot_automl.oracle.front import front, incumbent_within
from fewshot_automl.oracle.goals import SCORE, Aims, Goal, Limit
from fewshot_automl.oracle.hypervolume import hypervolume
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewshot_automl.oracle import RandomOracle
from fewshot_automl.oracle.gp import GpOracle
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Choice, Config, Float, Space

SPACE = Space(
    (
        Choice(name="size", options=("s", "m", "l")),
        Float(name="x", low=0.0, high=1.0),
        Float(name="y", low=0.0, high=1.0),
    )
)
SIZES = {"s": 1e6, "m": 1e7, "l": 1e8}
SMALL = Goal("parameters", maximise=False)
EASY = {"candidates": 64, "samples": 32, "fit_steps": 20}


def size(config):
    return SIZES[config.text("size")]


def outcome_of(config, generator, unit=1.0):
    """Return a trial; the score wants a large x, the worst recall a small one."""
    x, y = config.number("x"), config.number("y")
    bonus = {"s": 0.0, "m": 0.1, "l": 0.15}[config.text("size")]
    score = 0.8 + bonus - (x - 0.8) ** 2 - (y - 0.3) ** 2
    return Outcome(
        status="done",
        mean=unit * (score + 0.01 * generator.standard_normal()),
        standard_error=unit * 0.01,
        cost_seconds=1.0,
        measures={
            "parameters": size(config),
            "worst_recall": unit * (0.9 - 0.8 * x + 0.01 * generator.standard_normal()),
        },
    )


def study(oracle, trials, seed, unit=1.0):
    """Return the history of a study of the toy problem."""
    generator = np.random.default_rng(seed)
    history = []
    for _ in range(trials):
        (config,) = oracle.suggest(SPACE, history, 1, seed)
        history.append((config, outcome_of(config, generator, unit)))
    return history


def volume(history):
    """Return what a history's trials dominate, by the truth."""
    points = [
        (
            0.8 + {"s": 0.0, "m": 0.1, "l": 0.15}[c.text("size")]
            - (c.number("x") - 0.8) ** 2
            - (c.number("y") - 0.3) ** 2,
            -np.log10(size(c)),
        )
        for c, _ in history
    ]  # fmt: skip
    return hypervolume(np.array(points), np.array([0.5, -8.2]))


@pytest.mark.parametrize("is_exact", [True, False])
def test_a_front_is_found_sooner_than_by_chance(is_exact):
    aims = Aims(
        goals=(Goal(SCORE), SMALL), exact={"parameters": size} if is_exact else {}
    )
    best = 0.3 * 1 + 0.4 * 1 + 0.45 * 0.2  # sizes at their best, one by one
    ours, theirs = (
        np.mean([volume(study(oracle, 16, seed)) for seed in range(3)])
        for oracle in (GpOracle(aims=aims, **EASY), RandomOracle())
    )
    assert ours > theirs
    assert ours > 0.95 * best


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_a_measured_limit_is_kept_in_any_unit(unit, caplog):
    limit = Limit("worst_recall", least=unit * 0.5)  # x up to 0.5
    oracle = GpOracle(aims=Aims(limits=(limit,)), **EASY)
    with caplog.at_level(logging.WARNING):
        history = study(oracle, 18, 0, unit)
    assert not caplog.records
    best = incumbent_within(SPACE, history, (limit,), 0)
    assert best is not None
    config = history[best][0]
    assert config.text("size") == "l"
    assert 0.35 < config.number("x") <= 0.52
    assert abs(config.number("y") - 0.3) < 0.2


def test_what_is_known_to_break_a_limit_is_not_tried():
    aims = Aims(limits=(Limit("parameters", most=2e7),), exact={"parameters": size})
    history = study(GpOracle(aims=aims, **EASY), 14, 1)
    assert {c.text("size") for c, _ in history[6:]} <= {"s", "m"}
    best = incumbent_within(SPACE, history, aims.limits, 0)
    assert best is not None
    assert history[best][0].text("size") == "m"


def test_with_nothing_feasible_the_search_goes_where_it_may_be():
    generator = np.random.default_rng(0)
    configs = [
        Config.of({"size": "l", "x": x, "y": y})
        for x, y in itertools.product((0.6, 0.75, 0.9), (0.2, 0.8))
    ]
    history = [(config, outcome_of(config, generator)) for config in configs]
    limit = Limit("worst_recall", least=0.7)  # x up to 0.25
    oracle = GpOracle(aims=Aims(limits=(limit,)))
    (config,) = oracle.suggest(SPACE, history, 1, 0)
    assert config.number("x") < 0.4
    assert incumbent_within(SPACE, history, (limit,), 0) is None


def test_an_infeasible_region_is_not_explored_without_end():
    """The highest scores all break the limit; few trials should be spent on them."""
    limit = Limit("worst_recall", least=0.5)
    history = study(GpOracle(aims=Aims(limits=(limit,)), **EASY), 20, 2)
    late = [config.number("x") for config, _ in history[8:]]
    assert np.mean(np.array(late) > 0.6) < 0.35


def test_several_picks_are_spread_over_the_front():
    generator = np.random.default_rng(0)
    configs = RandomOracle().suggest(SPACE, [], 15, 0)
    history = [(config, outcome_of(config, generator)) for config in configs]
    aims = Aims(goals=(Goal(SCORE), SMALL), exact={"parameters": size})
    picks = GpOracle(aims=aims).suggest(SPACE, history, 4, 0)
    assert len({config.text("size") for config in picks}) > 1
    pending = [(config, Outcome(status="running")) for config in picks]
    (next_one,) = GpOracle(aims=aims).suggest(SPACE, history + pending, 1, 0)
    assert next_one not in picks


NUMBERS = st.sampled_from([0.0, 1.0, 1.0, 2.0, -3.0, 1e-30, 1e30])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_on_any_history_it_keeps_its_promises(data):
    oracle = GpOracle(
        candidates=16,
        samples=8,
        fit_steps=3,
        initial_trials=2,
        aims=Aims(
            goals=data.draw(
                st.sampled_from(
                    [
                        (Goal(SCORE),),
                        (Goal(SCORE), SMALL),
                        (Goal("latency_ms", maximise=False),),
                        (Goal(SCORE), SMALL, Goal("latency_ms", maximise=False)),
                    ]
                )
            ),
            limits=data.draw(
                st.sampled_from(
                    [
                        (),
                        (Limit("latency_ms", most=1.0),),
                        (Limit("latency_ms", least=1.0, most=1.0),),
                        (Limit("parameters", most=0.5), Limit(SCORE, least=1.0)),
                        (Limit("parameters", most=2e7),),
                    ]
                )
            ),
            exact={"parameters": size} if data.draw(st.booleans()) else {},
        ),
    )
    history = []
    for config in RandomOracle().suggest(SPACE, [], data.draw(st.integers(0, 8)), 0):
        status = data.draw(st.sampled_from(["done"] * 5 + ["failed", "running"]))
        if status != "done":
            history.append((config, Outcome(status=status)))
            continue
        names = data.draw(st.sets(st.sampled_from(["parameters", "latency_ms"])))
        outcome = Outcome(
            status="done",
            mean=data.draw(NUMBERS),
            standard_error=data.draw(st.sampled_from([0.0, 0.1, float("nan")])),
            measures={name: data.draw(NUMBERS) for name in sorted(names)},
        )
        history.append((config, outcome))
    n = data.draw(st.integers(1, 3))
    suggested = oracle.suggest(SPACE, history, n, seed=1)
    assert len(suggested) == len(set(suggested)) == n
    assert all(SPACE.contains(config) for config in suggested)
    assert not {config for config, _ in history} & set(suggested)
    assert suggested == oracle.suggest(SPACE, history, n, seed=1)


def test_a_study_ends_with_a_front_of_all_sizes():
    aims = Aims(goals=(Goal(SCORE), SMALL), exact={"parameters": size})
    history = study(GpOracle(aims=aims, **EASY), 16, 0)
    chosen = front(SPACE, history, aims.goals, (), 0)
    sizes = [history[i][0].text("size") for i in chosen]
    assert sizes == sorted(sizes, key="lms".index)
    assert len(set(sizes)) >= 2


def test_the_first_points_keep_the_limits_that_configs_fix():
    size = {"a": 1.0, "b": 2.0, "c": 3.0}
    space = Space(
        (
            Choice(name="size", options=tuple(size)),
            Float(name="x", low=0.0, high=1.0),
        )
    )
    exact = {"parameters": lambda config: size[config.text("size")]}
    for most, allowed in ((2.0, {"a", "b"}), (1.0, {"a"}), (0.5, set(size))):
        aims = Aims(limits=(Limit("parameters", most=most),), exact=exact)
        picks = GpOracle(aims=aims).suggest(space, [], 6, 0)
        assert len(picks) == 6
        assert {pick["size"] for pick in picks} == allowed


def test_where_few_first_points_keep_the_limits_the_others_follow():
    sizes = ("a", "b", "c")
    space = Space((Choice(name="size", options=sizes),))
    exact = {"parameters": lambda config: float(sizes.index(config.text("size")))}
    aims = Aims(limits=(Limit("parameters", most=0.0),), exact=exact)
    history = []
    while picks := GpOracle(aims=aims).suggest(space, history, 1, 0):
        history.append((picks[0], Outcome(status="done", mean=0.5)))
    found = [config.text("size") for config, _ in history]
    assert found[0] == "a"
    assert sorted(found) == list(sizes)
