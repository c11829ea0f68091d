import itertools

import numpy as np
import pytest
from fewshot_automl.oracle.part import fill
from fewshot_automl.oracle.sampling import (
    FLOAT_POINTS,
    all_configs,
    fresh,
    mutations,
    sobol_configs,
)

from fewshot_automl.space import Choice, Config, Float, Int, Space, When

SPACE = Space(
    (
        Choice(name="method", options=("probe", "lora")),
        Int(name="rank", low=1, high=8, when=(When("method", ("lora",)),)),
        Float(name="rate", low=1e-4, high=1e-2, log=True,
              when=(When("method", ("lora",)),)),
    )
)  # fmt: skip
SMALL = Space(SPACE.dimensions[:2])


def test_all_configs_are_each_config_once():
    configs = list(all_configs(SMALL))
    assert len(configs) == len(set(configs)) == SMALL.size() == 9


def test_a_float_is_walked_through_in_many_steps():
    configs = list(all_configs(Space((Float(name="x", low=0.0, high=1.0),))))
    assert len(set(configs)) == FLOAT_POINTS


def test_an_empty_space_has_one_config():
    assert list(sobol_configs(Space(()), 0, 4)) == [Config.of({})]
    assert list(all_configs(Space(()))) == [Config.of({})]


def test_mutations_stay_inside_and_differ_in_one_dimension():
    generator = np.random.default_rng(0)
    start = Config.of({"method": "lora", "rank": 4, "rate": 1e-3})
    for config in itertools.islice(mutations(SPACE, start, generator), 200):
        assert SPACE.contains(config)
        if config["method"] == "lora":
            values, others = config.to_json(), start.to_json()
            changed = [
                name for name in values
                if not np.isclose(SPACE[name].encode(values[name]),
                                  SPACE[name].encode(others[name]))
            ]  # fmt: skip
            assert len(changed) <= 1


def test_mutations_of_a_config_that_cannot_vary_end():
    space = Space((Choice(name="m", options=("a",)), Int(name="n", low=3, high=3)))
    config = Config.of({"m": "a", "n": 3})
    assert list(mutations(space, config, np.random.default_rng(0))) == []


def test_fresh_keeps_order_and_skips_repeats():
    a, b, c = (Config.of({"x": i}) for i in range(3))
    assert fresh([a, b, a, c], {b}, 5) == [a, c]
    assert fresh([a, b, c], set(), 2) == [a, b]


def test_fill_finds_the_last_config_of_a_rare_branch():
    options = tuple(f"o{i}" for i in range(500))
    space = Space(
        (
            Choice(name="m", options=options),
            Float(name="x", low=0.0, high=1.0, when=(When("m", ("o499",)),)),
        )
    )
    seen = {Config.of({"m": option}) for option in options[:-1]}
    (config,) = fill(space, [], seen, 1, seed=0)
    assert config["m"] == "o499"


@pytest.mark.parametrize("count", [1, 2, 5, 64])
def test_sobol_gives_at_least_the_count(count):
    assert len(list(sobol_configs(SPACE, 0, count))) >= count
