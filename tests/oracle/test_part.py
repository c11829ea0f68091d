import numpy as np
import pytest
from fewshot_automl.oracle.part import all_of_few, evenly, is_inside, neighbours

from fewshot_automl.oracle import RandomOracle, SobolOracle
from fewshot_automl.oracle.gp import GpOracle
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Choice, Config, Float, Space, When

SPACE = Space(
    (
        Choice(name="method", options=("probe", "lora")),
        Float(name="rate", low=0.0, high=1.0, when=(When("method", ("lora",)),)),
    )
)
POOL = [
    Config.of({"method": "lora", "rate": float(rate)}) for rate in np.linspace(0, 1, 21)
]


def told(config):
    return Outcome(status="done", mean=-abs(float(config.get("rate", 0.9)) - 0.3))


@pytest.mark.parametrize("oracle", [GpOracle(), SobolOracle(), RandomOracle()])
def test_suggestions_come_from_the_pool_until_it_is_empty(oracle):
    history = []
    for number in range(len(POOL)):
        (config,) = oracle.suggest(SPACE, history, 1, seed=number, within=POOL)
        assert config in POOL
        assert config not in {known for known, _ in history}
        history.append((config, told(config)))
    assert oracle.suggest(SPACE, history, 1, seed=0, within=POOL) == []


def test_what_was_seen_outside_the_pool_teaches():
    history = [(config, told(config)) for config in POOL[::2]]
    (config,) = GpOracle().suggest(SPACE, history, 1, seed=0, within=POOL[1::2])
    assert config["rate"] == pytest.approx(0.3, abs=0.1)


def test_a_pool_is_all_of_few_and_has_no_neighbours():
    assert all_of_few(POOL, 3) == POOL
    assert list(neighbours(POOL, POOL[0], np.random.default_rng(0))) == []
    assert is_inside(POOL, POOL[3])
    assert not is_inside(POOL, Config.of({"method": "probe"}))
    assert sorted(evenly(POOL, 0, 4), key=str) == sorted(POOL, key=str)
