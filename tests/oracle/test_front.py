import numpy as np
import pytest
from fewshot_automl.oracle.front import front, incumbent_within, within
from fewshot_automl.oracle.goals import SCORE, Goal, Limit
from fewshot_automl.oracle.winner import incumbent
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config, Float, Space

LINE = Space((Float(name="x", low=0.0, high=1.0),))
GOALS = (Goal(SCORE), Goal("parameters", maximise=False))


def at(x):
    return Config.of({"x": float(x)})


def done(mean, error=0.01, **objectives):
    return Outcome(
        status="done",
        mean=mean,
        standard_error=error,
        measures=objectives,
    )


def test_the_front_is_what_nothing_beats():
    history = [
        (at(0.1), done(0.60, parameters=1e6)),
        (at(0.2), done(0.70, parameters=5e6)),
        (at(0.3), done(0.65, parameters=9e6)),
        (at(0.4), done(0.80, parameters=2e7)),
        (at(0.5), done(0.99)),
        (at(0.6), Outcome(status="failed", measures={"parameters": 1.0})),
    ]
    assert front(LINE, history, GOALS, (), 0) == [3, 1, 0]
    limits = (Limit("parameters", most=1e7),)
    assert front(LINE, history, GOALS, limits, 0) == [1, 0]
    assert front(LINE, history, (Goal(SCORE),), limits, 0) == [1]
    assert front(LINE, history, GOALS, (Limit("flops", most=1.0),), 0) == []
    assert front(LINE, [], GOALS, limits, 0) == []


def test_luck_is_no_place_on_the_front():
    places = np.linspace(0, 1, 15)
    history = [
        (at(x), done(0.8 + 0.1 * x, 0.05, parameters=1e6 * 10**x)) for x in places
    ]
    lucky = (at(0.52), done(0.93, 0.2, parameters=2e7))
    assert 15 not in front(LINE, [*history, lucky], GOALS, (), 0)


def test_the_incumbent_keeps_the_limits():
    history = [
        (at(x), done(0.5 + 0.4 * x, parameters=1e6 * 10**x, latency_ms=1 + x))
        for x in np.linspace(0, 1, 11)
    ]
    assert incumbent_within(LINE, history, (), 0) == incumbent(LINE, history, 0) == 10
    assert incumbent_within(LINE, history, (Limit("parameters", most=4e6),), 0) == 6
    both = (Limit("parameters", most=4e6), Limit("latency_ms", most=1.31))
    assert incumbent_within(LINE, history, both, 0) == 3
    assert incumbent_within(LINE, history, (Limit("parameters", most=1.0),), 0) is None
    assert incumbent_within(LINE, history, (Limit(SCORE, least=0.95),), 0) is None


def test_a_limit_must_be_kept_by_the_measurement_and_by_its_mean():
    # Twins differ by luck alone.
    history = [
        (at(x + twin), done(0.5 + 0.1 * x, worst_recall=0.35 + 1000 * twin))
        for x in np.linspace(0, 0.9, 10)
        for twin in (0.0, 1e-4)
    ]
    assert within(LINE, history, (Limit("worst_recall", least=0.44),), 0) == []
    kept = within(LINE, history, (Limit("worst_recall", least=0.38),), 0)
    assert kept == list(range(1, 20, 2))


def test_the_last_trial_of_each_config_counts():
    history = [
        (at(0.2), done(0.8, parameters=1.0)),
        (at(0.2), done(0.7, parameters=1.0)),
    ]
    assert front(LINE, history, GOALS, (), 0) == [1]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_on_any_history_what_is_chosen_keeps_the_limits(data):
    numbers = st.sampled_from([0.0, 1.0, 1.0, 3.0, -2.0, 1e-30, 1e30])
    history = []
    for x in range(data.draw(st.integers(0, 9))):
        objectives = {
            name: data.draw(numbers)
            for name in ("parameters", "latency_ms")
            if data.draw(st.booleans())
        }
        status = data.draw(st.sampled_from(["done"] * 4 + ["failed", "running"]))
        outcome = (
            done(data.draw(numbers), **objectives)
            if status == "done"
            else Outcome(status=status)
        )
        history.append((at(x / 10), outcome))
    goals = (Goal(SCORE), Goal("latency_ms", maximise=False))
    limits = (Limit("parameters", most=data.draw(numbers)),)
    chosen = front(LINE, history, goals, limits, 0)
    assert chosen == front(LINE, history, goals, limits, 0)
    best = incumbent_within(LINE, history, limits, 0)
    for i in [*chosen, *([] if best is None else [best])]:
        assert history[i][1].is_done
        assert limits[0].allows(history[i][1].measures["parameters"])
    feasible = [
        o for _, o in history if limits[0].allows(o.measures.get("parameters", np.nan))
    ]
    assert (best is None) == (not any(o.is_done for o in feasible))


@pytest.mark.parametrize("unit", [1e-20, 1e20])
def test_units_do_not_matter(unit):
    def of(scale):
        return [
            (
                at(x),
                done(scale * np.sin(5 * x), scale * 0.01, latency_ms=scale * (2 - x)),
            )
            for x in np.linspace(0, 1, 12)
        ]

    goals = (Goal(SCORE), Goal("latency_ms", maximise=False))
    assert front(LINE, of(unit), goals, (), 0) == front(LINE, of(1.0), goals, (), 0)
