from collections import Counter

import numpy as np

from fewshot_automl.oracle import SobolOracle
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Choice, Float, Space, When

SPACE = Space(
    (
        Choice(name="backbone", options=tuple("abcdefg")),
        Choice(name="method", options=("probe", "lora", "full")),
        Choice(name="schedule", options=("flat", "cosine"),
               when=(When("method", ("lora", "full")),)),
        Float(name="rate", low=0.0, high=1.0),
    )
)  # fmt: skip


def test_options_are_spread_evenly_from_the_start():
    for seed in range(5):
        configs = SobolOracle().suggest(SPACE, [], 21, seed)
        assert set(Counter(c["backbone"] for c in configs).values()) == {3}
        assert set(Counter(c["method"] for c in configs).values()) == {7}


def test_one_at_a_time_covers_as_well_as_all_at_once():
    history = []
    for _ in range(14):
        (config,) = SobolOracle().suggest(SPACE, history, 1, seed=4)
        history.append((config, Outcome(status="running")))
    counts = Counter(config["backbone"] for config, _ in history)
    assert set(counts.values()) == {2}
    configs = [config for config, _ in history]
    assert configs == SobolOracle().suggest(SPACE, [], 14, seed=4)


def test_numbers_are_covered_more_evenly_than_at_random():
    space = Space((Float(name="x", low=0.0, high=1.0),))
    values = sorted(c["x"] for c in SobolOracle().suggest(space, [], 16, seed=0))
    assert max(np.diff([0.0, *values, 1.0])) < 3 / 16
