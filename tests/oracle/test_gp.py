import logging

import numpy as np
import pytest
import torch
from fewshot_automl.oracle.surrogate import SurrogateError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewshot_automl.errors import UserError
from fewshot_automl.oracle import RandomOracle, SobolOracle, incumbent, search
from fewshot_automl.oracle.gp import GpOracle
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Choice, Config, Float, Int, Space, When

LINE = Space((Float(name="x", low=0.0, high=1.0),))
SMALL = GpOracle(candidates=32, samples=16, fit_steps=5)
"""Quick settings for properties that no setting may break."""


def done(mean, error=0.01):
    return Outcome(status="done", mean=mean, standard_error=error)


def at(x):
    return Config.of({"x": float(x)})


def a_space(draw):
    """Return a space with conditions of any depth.

    It is no strategy, because beartype uses `random` while dimensions are made, and
    hypothesis forbids that inside strategies.
    """
    dimensions: list[Choice | Float | Int] = []
    for index in range(draw(st.integers(1, 6))):
        parents = [d for d in dimensions if isinstance(d, Choice)]
        when: tuple[When, ...] = ()
        if parents and draw(st.booleans()):
            parent = draw(st.sampled_from(parents))
            values = draw(st.sets(st.sampled_from(parent.options), min_size=1))
            when = (When(parent.name, tuple(sorted(values))),)
        name, low = f"d{index}", draw(st.integers(1, 3))
        kind = draw(st.sampled_from(["choice", "float", "int"]))
        log = draw(st.booleans())
        if kind == "choice":
            options = tuple(f"o{i}" for i in range(draw(st.integers(1, 4))))
            rows = tuple((float(i % 2), float(i)) for i in range(len(options)))
            described = rows if draw(st.booleans()) else None
            dimensions.append(
                Choice(name=name, options=options, when=when, descriptors=described)
            )
        elif kind == "float":
            high = low + draw(st.sampled_from([0.0, 0.5, 100.0]))
            dimensions.append(
                Float(name=name, low=float(low), high=high, log=log, when=when)
            )
        else:
            high = low + draw(st.integers(0, 5))
            dimensions.append(Int(name=name, low=low, high=high, log=log, when=when))
    return Space(tuple(dimensions))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_on_any_space_and_history_it_keeps_its_promises(data):
    space = a_space(data.draw)
    configs = RandomOracle().suggest(space, [], data.draw(st.integers(0, 12)), 0)
    errors = st.sampled_from([0.0, 1e-9, 0.1, 1e9, float("nan"), float("inf")])
    statuses = st.sampled_from(["done"] * 5 + ["failed", "running", "stopped"])
    history = []
    for config in configs:
        status = data.draw(statuses)
        if status == "done":
            outcome = done(data.draw(st.floats(-1e9, 1e9)), data.draw(errors))
        else:
            outcome = Outcome(status=status)
        history.append((config, outcome))
    n = data.draw(st.integers(1, 4))
    suggested = SMALL.suggest(space, history, n, seed=1)
    assert all(space.contains(config) for config in suggested)
    assert len(set(suggested)) == len(suggested)
    taken = {config for config, outcome in history if outcome.status != "stopped"}
    assert not taken & set(suggested)
    assert len(suggested) == min(n, space.size() - len(taken))
    assert suggested == SMALL.suggest(space, history, n, seed=1)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("error", [0.0, 0.01, float("nan")])
def test_it_climbs_at_any_scale_of_scores(scale, error, caplog):
    history = [
        (at(x), done(-scale * (x - 0.63) ** 2, scale * error))
        for x in np.linspace(0, 1, 8)
    ]
    with caplog.at_level(logging.WARNING):
        (config,) = GpOracle().suggest(LINE, history, 1, seed=0)
    assert abs(config["x"] - 0.63) < 0.15
    assert not caplog.records  # the surrogate answered, not a fallback


@pytest.mark.parametrize(
    "outcomes",
    [
        [done(0.5)],
        [done(0.5)] * 10,
        [Outcome(status="failed", reason="out of memory")] * 10,
        [Outcome(status="running")] * 10,
    ],
    ids=["one", "equal", "failures", "running"],
)
def test_with_nothing_to_learn_from_sobol_points_answer(outcomes):
    history = list(
        zip(RandomOracle().suggest(LINE, [], len(outcomes), 0), outcomes, strict=True)
    )
    expected = SobolOracle().suggest(LINE, history, 3, seed=2)
    assert GpOracle().suggest(LINE, history, 3, seed=2) == expected


def test_five_hundred_trials_are_not_too_many(caplog):
    configs = RandomOracle().suggest(LINE, [], 500, 0)
    history = [(config, done(np.sin(6 * config["x"]), 0.1)) for config in configs]
    oracle = GpOracle(fit_steps=5)
    with caplog.at_level(logging.WARNING):
        assert len(oracle.suggest(LINE, history, 2, seed=0)) == 2
    assert incumbent(LINE, history, 0) is not None
    assert not caplog.records


def test_a_batch_is_spread_and_pending_trials_are_avoided():
    history = [(at(x), done(-((x - 0.5) ** 2), 0.05)) for x in (0.0, 0.3, 0.7, 1.0)]
    batch = [c["x"] for c in GpOracle().suggest(LINE, history, 3, seed=0)]
    assert min(np.diff(sorted(batch))) > 0.01
    pending = [(at(batch[0]), Outcome(status="running"))]
    (config,) = GpOracle().suggest(LINE, history + pending, 1, seed=0)
    assert abs(config["x"] - batch[0]) > 0.01


def test_repeated_configs_are_no_trouble(caplog):
    history = [(at(x), done(x + 0.1 * i, 0.1)) for i in (0, 1) for x in (0.1, 0.5, 0.9)]
    history.append((at(0.5), Outcome(status="running")))
    with caplog.at_level(logging.WARNING):
        assert len(GpOracle().suggest(LINE, history, 4, seed=0)) == 4
    assert not caplog.records


def test_a_failed_region_is_avoided():
    space = Space((Choice(name="m", options=("good", "bad")), *LINE.dimensions))

    def of(method, x):
        return Config.of({"m": method, "x": float(x)})

    history = [(of("good", x), done(0.5 + 0.1 * x)) for x in np.linspace(0, 0.9, 6)]
    history += [
        (of("bad", x), Outcome(status="failed", reason="out of memory"))
        for x in np.linspace(0, 1, 6)
    ]
    batch = GpOracle().suggest(space, history, 1, seed=0)
    assert [config["m"] for config in batch] == ["good"]


def test_numbers_outside_a_narrowed_range_still_teach():
    history = [(at(x), done(x)) for x in (1.2, 1.5, 1.9, 2.5, 3.0)]
    (config,) = GpOracle().suggest(LINE, history, 1, seed=0)
    assert config["x"] > 0.5


def test_a_surrogate_that_fails_is_said_and_replaced(monkeypatch, caplog):
    def fail(*_, **__):
        raise SurrogateError("no covariance")

    monkeypatch.setattr(search, "fit_scores", fail)
    history = [(at(x), done(x)) for x in np.linspace(0, 1, 6)]
    with caplog.at_level(logging.WARNING):
        configs = GpOracle().suggest(LINE, history, 2, seed=0)
    assert configs == SobolOracle().suggest(LINE, history, 2, seed=0)
    assert "no covariance" in caplog.text


def test_random_state_outside_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    history = [(at(x), done(x)) for x in np.linspace(0, 1, 6)]
    GpOracle().suggest(LINE, history, 1, seed=0)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("field", "value"),
    [("initial_trials", 1), ("candidates", 0), ("samples", 0), ("fit_steps", 0)],
)  # fmt: skip
def test_settings_are_checked(field, value):
    with pytest.raises(UserError, match=field):
        GpOracle(**{field: value})
