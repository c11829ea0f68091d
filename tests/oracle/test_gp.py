"""What every oracle owes for any history, and the Gaussian process beyond that."""

import logging
import math
import time
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fewshot_automl.oracle import (
    SCORE,
    Aims,
    GpOracle,
    Limit,
    Objective,
    Prior,
    RandomOracle,
    SobolOracle,
)
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Choice, Config, Float, Int, Space, When

MADE = MappingProxyType(
    {
        "random": RandomOracle(),
        "sobol": SobolOracle(),
        "gp": GpOracle(candidates=32, samples=8, fit_steps=4),
        "gp, early": GpOracle(initial_trials=2, candidates=8, samples=1, fit_steps=1),
    }
)
NAN, INF = math.nan, math.inf
MIXED = Space(
    (
        Choice(name="backbone", options=("s", "m", "l"),
               descriptors=((1.0, 7.0), (2.0, 7.0), (4.0, NAN))),
        Choice(name="method", options=("probe", "lora")),
        Int(name="rank", low=1, high=64, log=True, when=(When("method", ("lora",)),)),
        Float(name="rate", low=1e-5, high=1e-1, log=True,
              when=(When("method", ("lora",)),)),
        Choice(name="only", options=("this",)),
        Float(name="mix", low=0.0, high=1.0),
    )
)  # fmt: skip
FEW = Space(
    (
        Choice(name="method", options=("a", "b", "c")),
        Int(name="rank", low=1, high=3, when=(When("method", ("b", "c")),)),
    )
)
LINE = Space((Float(name="x", low=0.0, high=1.0),))
SQUARE = Space((*LINE.dimensions, Float(name="y", low=0.0, high=1.0)))


def done(mean, error=0.01, **measures):
    return Outcome(
        status="done", mean=float(mean), standard_error=error, measures=measures
    )


def at(**values):
    return Config.of({name: float(value) for name, value in values.items()})


def check(oracle, space, history, n, allows=None, seed=5):
    """Suggest, check every promise, and return the suggestions."""
    configs = oracle.suggest(space, history, n, seed, allows)
    assert configs == oracle.suggest(space, history, n, seed, allows)
    taken = {config for config, outcome in history if outcome.status != "stopped"}
    assert len(set(configs)) == len(configs) <= n
    assert all(map(space.contains, configs))
    assert taken.isdisjoint(configs)
    assert allows is None or all(map(allows, configs))
    return configs


@pytest.fixture(params=list(MADE))
def oracle(request):
    return MADE[request.param]


STATUSES = ["done"] * 5 + ["failed", "running", "stopped"]
ERRORS = st.sampled_from([0.0, 1e-9, 0.1, 1e6, NAN, INF])


@settings(
    max_examples=12,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@given(st.data())
def test_no_history_breaks_a_promise(oracle, data):
    space = data.draw(st.sampled_from([MIXED, FEW, LINE]))
    configs = RandomOracle().suggest(space, [], 9, data.draw(st.integers(0, 9)))
    scores = data.draw(
        st.sampled_from([st.floats(-1, 1), st.just(0.7), st.floats(-1e9, 1e9)])
    )
    history = [(Config.of({"stranger": 1}), done(9.0))]
    for config in configs:
        status = data.draw(st.sampled_from(STATUSES))
        outcome = (
            done(data.draw(scores), data.draw(ERRORS))
            if status == "done"
            else Outcome(status=status)
        )
        history.append((config, outcome))
    n = data.draw(st.integers(1, 3))
    taken = {c for c, o in history[1:] if o.status != "stopped"}
    found = check(oracle, space, history, n)
    assert len(found) == min(n, space.size() - len(taken))


def test_only_what_is_allowed_is_suggested(oracle):
    history = [
        (c, done(MIXED.encode(c).sum()))
        for c in RandomOracle().suggest(MIXED, [], 12, 0)
    ]

    def allows(config):
        return config["method"] == "probe" and config["backbone"] != "l"

    assert len(check(oracle, MIXED, history, 3, allows)) == 3
    assert check(oracle, MIXED, history, 1, lambda config: False) == []
    last = Config.of({"method": "c", "rank": 3})
    assert check(oracle, FEW, [], 2, lambda config: config == last) == [last]


def curve(x):
    return 1 - (x - 0.7) ** 2


SEEN = [(at(x=x), done(curve(x), 0.01)) for x in np.linspace(0, 1, 8)]


def test_the_best_is_sought_where_the_curve_has_its_top():
    (config,) = check(GpOracle(), LINE, SEEN, 1)
    assert abs(config["x"] - 0.7) < 0.1


def test_a_running_trial_is_pending_and_several_differ():
    first = check(GpOracle(), LINE, SEEN, 1)
    pending = [*SEEN, (first[0], Outcome(status="running"))]
    (second,) = check(GpOracle(), LINE, pending, 1)
    assert abs(second["x"] - first[0]["x"]) > 1e-3
    both = check(GpOracle(), LINE, SEEN, 2)
    assert both[0] == first[0]


def test_another_thread_of_draws_is_left_alone():
    import torch

    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    check(GpOracle(), LINE, SEEN, 1)
    assert torch.rand(1) == expected


def test_limits_that_a_config_fixes_are_kept_and_learnt_ones_are_sought():
    rows = RandomOracle().suggest(SQUARE, [], 16, 0)
    history = [(c, done(c["x"] + c["y"], latency=1 + 9 * c["x"])) for c in rows]
    exact = {"size": lambda config: 10 * float(config["y"])}
    limits = (Limit("size", most=3.0), Limit("latency", most=4.0))
    oracle = GpOracle(aims=Aims(limits=limits, exact=exact))
    for config in check(oracle, SQUARE, history, 3):
        assert config["y"] <= 0.3
        assert config["x"] <= 0.45
    early = check(oracle, SQUARE, [], 5)
    assert all(config["y"] <= 0.3 for config in early)


def test_a_front_is_widened_where_it_is_thin():
    rows = RandomOracle().suggest(SQUARE, [], 14, 1)
    history = [(c, done(c["x"] - c["y"], size=1 + c["x"])) for c in rows]
    for exact in ({}, {"size": lambda config: 1 + float(config["x"])}):
        aims = Aims(
            objectives=(Objective(SCORE), Objective("size", maximise=False)),
            exact=exact,
        )
        found = check(GpOracle(aims=aims, candidates=128), SQUARE, history, 3)
        assert np.mean([config["y"] for config in found]) < 0.2
        assert np.ptp([config["x"] for config in found]) > 0.1


def test_a_measure_that_nobody_measured_stops_nothing():
    aims = Aims(limits=(Limit("latency", most=1.0),))
    assert len(check(GpOracle(aims=aims), LINE, SEEN, 2)) == 2
    two = Aims(objectives=(Objective(SCORE), Objective("size", maximise=False)))
    assert len(check(GpOracle(aims=two), LINE, SEEN, 1)) == 1


def test_past_studies_lead_where_there_are_few_trials():
    points = RandomOracle().suggest(SQUARE, [], 40, 2)
    past = [(c, done(-((c["x"] - 0.2) ** 2) - (c["y"] - 0.8) ** 2)) for c in points]
    prior = Prior.build({"past": (SQUARE, past)})
    (config,) = check(GpOracle(prior=prior), SQUARE, past[:6], 1)
    assert math.dist((config["x"], config["y"]), (0.2, 0.8)) < 0.3


@pytest.mark.parametrize("n", [1, 2])
def test_from_20_trials_on_every_other_batch_is_suggested_without_past_studies(n):
    points = RandomOracle().suggest(SQUARE, [], 40, 2)
    past = [(c, done(-((c["x"] - 0.2) ** 2) - (c["y"] - 0.8) ** 2)) for c in points]
    advised, alone = GpOracle(prior=Prior.build({"past": (SQUARE, past)})), GpOracle()
    same = [
        check(advised, SQUARE, past[:count], n) == check(alone, SQUARE, past[:count], n)
        for count in (7, 20, 20 + n)
    ]
    assert same == [False, False, True]


def test_what_cannot_be_fitted_falls_back_and_says_why(monkeypatch, caplog):
    import fewshot_automl.oracle.acquisition as acquisition
    from fewshot_automl.oracle.model import NotPSDError

    def fail(*_, **__):
        raise NotPSDError("not positive definite")

    monkeypatch.setattr(acquisition, "fit", fail)
    with caplog.at_level(logging.WARNING):
        found = check(GpOracle(), LINE, SEEN, 2)
    assert found == SobolOracle().suggest(LINE, SEEN, 2, 5)
    assert "not positive definite" in caplog.text


def test_a_suggestion_takes_about_a_second():
    rows = RandomOracle().suggest(MIXED, [], 40, 0)
    history = [(c, done(MIXED.encode(c).sum(), 0.1)) for c in rows]
    seconds = []
    for count in (38, 39, 40):  # other trials each time, so that each is fitted again
        began = time.process_time()
        GpOracle().suggest(MIXED, history[:count], 1, 0)
        seconds.append(time.process_time() - began)
    assert min(seconds) < 2.0  # beartype and a busy machine included
