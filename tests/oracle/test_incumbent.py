import logging

import numpy as np
import pytest

from fewshot_automl.oracle import (
    SCORE,
    Aims,
    Limit,
    Objective,
    pareto_front,
    posterior_means,
)
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config, Float, Space

LINE = Space((Float(name="x", low=0.0, high=1.0),))
TWO = (Objective(SCORE), Objective("parameters", maximise=False))
EXACT = {"parameters": lambda config: 1.0}


def at(x):
    return Config.of({"x": float(x)})


def done(mean, error=0.01, **measures):
    return Outcome(
        status="done", mean=float(mean), standard_error=error, measures=measures
    )


def incumbent(history, limits=()):
    means = posterior_means(LINE, history, 0, aims=Aims(limits=limits))
    return max(means, key=lambda i: means[i], default=None)


def front(history, limits=(), objectives=TWO):
    aims = Aims(objectives=objectives, limits=limits, exact=EXACT)
    return pareto_front(LINE, history, aims, 0)


def test_a_lucky_score_among_worse_neighbours_is_not_the_incumbent():
    history = [(at(x), done(0.5 + 0.3 * x, 0.05)) for x in np.linspace(0, 1, 15)]
    lucky = [*history, (at(0.31), done(0.85, 0.15))]
    assert max(range(16), key=lambda i: lucky[i][1].mean) == 15
    assert incumbent(lucky) == 14


def test_few_trials_and_strangers_stand_by_their_scores():
    few = [
        (at(0.1), done(0.4)),
        (at(0.2), done(0.6)),
        (at(0.5), Outcome(status="failed")),
    ]
    assert posterior_means(LINE, few, 0) == {0: 0.4, 1: 0.6}
    stranger = (Config.of({"y": 1.0}), done(0.9))
    many = [(at(x), done(0.5 + 0.1 * x)) for x in np.linspace(0, 1, 9)]
    assert posterior_means(LINE, [*many, stranger], 0)[9] == 0.9
    assert posterior_means(LINE, [], 0) == {}


def test_a_trial_that_went_wrong_is_not_raised_far_by_its_neighbours():
    history = [(at(x), done(0.8, 0.02)) for x in np.linspace(0, 1, 12)]
    wrong = [(at(0.5001), done(0.3, 5.0)), *history, (at(0.2), done(0.79))]
    assert posterior_means(LINE, wrong, 0)[0] <= 0.3 + 2 * 5.0
    wild = [(at(0.5001), done(0.3, 0.02)), *history, (at(0.2), done(0.79))]
    assert posterior_means(LINE, wild, 0)[0] <= 0.3 + 2 * 0.02 + 1e-9


def test_a_limit_must_have_been_kept():
    history = [
        (at(x), done(0.5 + 0.4 * x, parameters=1e6 * 10**x, latency_ms=1 + x))
        for x in np.linspace(0, 1, 11)
    ]
    assert incumbent(history) == 10
    assert incumbent(history, (Limit("parameters", most=4e6),)) == 6
    both = (Limit("parameters", most=4e6), Limit("latency_ms", most=1.31))
    assert incumbent(history, both) == 3
    assert incumbent(history, (Limit("parameters", most=1.0),)) is None


def test_the_front_is_what_nothing_beats():
    history = [
        (at(0.1), done(0.60, parameters=1e6)),
        (at(0.2), done(0.70, parameters=5e6)),
        (at(0.3), done(0.65, parameters=9e6)),
        (at(0.4), done(0.80, parameters=2e7)),
        (at(0.5), done(0.99)),
        (at(0.6), Outcome(status="failed", measures={"parameters": 1.0})),
    ]
    assert front(history) == [3, 1, 0]
    limits = (Limit("parameters", most=1e7),)
    assert front(history, limits) == [1, 0]
    assert front(history, limits, TWO[:1]) == [1]
    assert front(history, (Limit("flops", most=1.0),)) == []
    assert front([], limits) == []
    aims = Aims(objectives=TWO, exact=EXACT)
    scores = {0: 0.9, 1: 0.7, 2: 0.65, 3: 0.8}
    assert pareto_front(LINE, history, aims, 0, scores=scores) == [0]


def test_what_cannot_be_fitted_is_said(monkeypatch, caplog):
    import fewshot_automl.oracle.model as model

    def fail(*_, **__):
        raise model.NotPSDError("not positive definite")

    monkeypatch.setattr(model, "fit", fail)
    history = [(at(x), done(x)) for x in np.linspace(0, 1, 9)]
    with caplog.at_level(logging.WARNING):
        means = posterior_means(LINE, history, 0)
    assert means == pytest.approx({i: i / 8 for i in range(9)})
    assert "not positive definite" in caplog.text
