import itertools
from collections import Counter

import numpy as np

from fewshot_automl.oracle import SobolOracle
from fewshot_automl.oracle.candidates import (
    all_configs,
    fill,
    fresh,
    neighbours,
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


def test_neighbours_stay_inside_and_differ_in_one_dimension():
    generator = np.random.default_rng(0)
    start = Config.of({"method": "lora", "rank": 4, "rate": 1e-3})
    for config in neighbours(SPACE, start, generator, 200):
        assert SPACE.contains(config)
        if config["method"] == "lora":
            here, there = SPACE.encode(start), SPACE.encode(config)
            assert (~np.isclose(here, there)).sum() <= 1


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


def test_sobol_visits_every_option_soon_and_goes_on_where_it_ended():
    for seed in range(5):
        configs = SobolOracle().suggest(OPTIONS, [], 21, seed)
        counts = Counter(c["method"] for c in configs)
        assert min(counts.values()) >= 5
        assert {c["backbone"] for c in configs} == set("abcdefg")
        history = [(config, Outcome(status="running")) for config in configs[:9]]
        assert SobolOracle().suggest(OPTIONS, history, 12, seed) == configs[9:]


def test_no_more_is_drawn_than_is_needed():
    drawn = map(Config.of, ({"x": number // 2} for number in itertools.count()))
    found = fresh(drawn, {Config.of({"x": 0})}, lambda c: c["x"] != 2, 3)
    assert [config["x"] for config in found] == [1, 3, 4]
