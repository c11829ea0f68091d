"""Failures are avoided, also where the score rises towards them."""

import pytest

from fewshot_automl.oracle import GpOracle, SobolOracle
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Choice, Float, Int, Space

SUGGESTIONS, MOST_FAILED, INITIAL = 24, 5, 4
RATE = Float(name="rate", low=1e-5, high=1e-1, log=True)
RANK = Int(name="rank", low=1, high=64, log=True)
SEEDS = pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
METHOD = Choice(name="method", options=("probe", "freeze", "lora", "full"))


def failed_suggestions(space, value, fails, seed):
    """Return how many of the suggestions fail, and the best value that was found."""
    history, oracle = [], GpOracle(candidates=128, samples=16, fit_steps=15)
    for trial in range(INITIAL + SUGGESTIONS):
        source = SobolOracle() if trial < INITIAL else oracle
        (config,) = source.suggest(space, history, 1, seed)
        outcome = (
            Outcome(status="failed", reason="NaN")
            if fails(config)
            else Outcome(status="done", mean=value(config), standard_error=0.02)
        )
        history.append((config, outcome))
    found = [outcome.mean for _, outcome in history if outcome.is_done]
    return sum(o.status == "failed" for _, o in history[INITIAL:]), max(found)


@SEEDS
def test_an_option_that_always_fails(seed):
    space = Space((METHOD, RATE))
    failed, best = failed_suggestions(
        space,
        lambda c: METHOD.encode(c["method"]) + 0.2 * RATE.encode(c["rate"]),
        lambda c: c["method"] == "full",
        seed,
    )
    assert failed <= MOST_FAILED
    assert best > 0.75  # lora at a high rate has 0.825


@SEEDS
def test_a_corner_of_two_dimensions(seed):
    space = Space((RATE, RANK, Float(name="mix", low=0.0, high=1.0)))
    failed, best = failed_suggestions(
        space,
        lambda c: RATE.encode(c["rate"]) + RANK.encode(c["rank"]),
        lambda c: RATE.encode(c["rate"]) > 0.6 and RANK.encode(c["rank"]) > 0.6,
        seed,
    )
    assert failed <= MOST_FAILED
    assert best > 1.45  # at the edges of the corner it is 1.6


@SEEDS
def test_an_edge_beyond_which_all_fails(seed):
    space = Space((METHOD, RATE, Float(name="mix", low=0.0, high=1.0)))
    failed, best = failed_suggestions(
        space,
        lambda c: RATE.encode(c["rate"]) - 0.3 * (float(c["mix"]) - 0.5) ** 2,
        lambda c: RATE.encode(c["rate"]) > 0.6,
        seed,
    )
    assert failed <= MOST_FAILED
    assert best > 0.5
