from collections import Counter

import numpy as np
import pytest

from fewshot_automl.oracle import SobolOracle
from fewshot_automl.oracle.candidates import (
    FLOAT_POINTS,
    all_configs,
    fill,
    fresh,
    neighbours,
    sobol_configs,
)
from fewshot_automl.outcome import Outcome
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
OPTIONS = Space(
    (
        Choice(name="backbone", options=tuple("abcdefg")),
        Choice(name="method", options=("probe", "lora", "full")),
        Choice(name="schedule", options=("flat", "cosine"),
               when=(When("method", ("lora", "full")),)),
        Float(name="rate", low=0.0, high=1.0),
    )
)  # fmt: skip


def test_all_configs_are_each_config_once():
    configs = list(all_configs(SMALL))
    assert len(configs) == len(set(configs)) == SMALL.size() == 9


def test_a_float_is_walked_through_in_many_steps():
    configs = list(all_configs(Space((Float(name="x", low=0.0, high=1.0),))))
    assert len(set(configs)) == FLOAT_POINTS


def test_an_empty_space_has_one_config():
    assert list(sobol_configs(Space(()), 0, 4)) == [Config.of({})]
    assert list(all_configs(Space(()))) == [Config.of({})]


def test_neighbours_stay_inside_and_differ_in_one_dimension():
    generator = np.random.default_rng(0)
    start = Config.of({"method": "lora", "rank": 4, "rate": 1e-3})
    for config in neighbours(SPACE, start, generator, 200):
        assert SPACE.contains(config)
        if config["method"] == "lora":
            here, there = SPACE.encode(start), SPACE.encode(config)
            assert (~np.isclose(here, there)).sum() <= 1


def test_what_cannot_vary_has_no_other_neighbours():
    space = Space((Choice(name="m", options=("a",)), Int(name="n", low=3, high=3)))
    config = Config.of({"m": "a", "n": 3})
    assert set(neighbours(space, config, np.random.default_rng(0), 9)) == {config}


def test_fresh_keeps_order_and_skips_repeats_and_what_is_not_allowed():
    a, b, c = (Config.of({"x": i}) for i in range(3))
    assert fresh([a, b, a, c], {b}, None, 5) == [a, c]
    assert fresh([a, b, c], set(), lambda config: config != a, 1) == [b]


def test_fill_finds_the_last_config_of_a_rare_branch():
    options = tuple(f"o{i}" for i in range(500))
    space = Space(
        (
            Choice(name="m", options=options),
            Float(name="x", low=0.0, high=1.0, when=(When("m", ("o499",)),)),
        )
    )
    seen = {Config.of({"m": option}) for option in options[:-1]}
    (config,) = fill(space, seen, None, 1, seed=0)
    assert config["m"] == "o499"


@pytest.mark.parametrize("count", [1, 2, 5, 64])
def test_sobol_gives_at_least_the_count(count):
    assert len(list(sobol_configs(SPACE, 0, count))) >= count


def test_sobol_visits_every_option_soon_and_goes_on_where_it_ended():
    for seed in range(5):
        configs = SobolOracle().suggest(OPTIONS, [], 21, seed)
        counts = Counter(c["method"] for c in configs)
        assert min(counts.values()) >= 5
        assert {c["backbone"] for c in configs} == set("abcdefg")
        history = [(config, Outcome(status="running")) for config in configs[:9]]
        assert SobolOracle().suggest(OPTIONS, history, 12, seed) == configs[9:]


def test_sobol_covers_numbers_more_evenly_than_at_random():
    space = Space((Float(name="x", low=0.0, high=1.0),))
    values = sorted(c["x"] for c in SobolOracle().suggest(space, [], 16, seed=0))
    assert max(np.diff([0.0, *values, 1.0])) < 3 / 16
