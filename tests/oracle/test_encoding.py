import numpy as np

from fewshot_automl.oracle.encoding import Encoding
from fewshot_automl.space import Choice, Config, Float, Int, Space, When

LORA = When("method", ("lora",))
SPACE = Space(
    (
        Choice(name="method", options=("probe", "lora", "full")),
        Float(name="rate", low=1e-4, high=1e-2, log=True,
              when=(When("method", ("lora", "full")),)),
        Int(name="rank", low=1, high=64, log=True, when=(LORA,)),
        Choice(name="where", options=("all", "last"), when=(LORA,)),
    )
)  # fmt: skip


def test_columns_are_grouped_by_their_conditions():
    layout = Encoding(SPACE).layout
    assert layout.continuous == (1, 2)
    assert layout.categorical == (0, 2)
    assert layout.groups == 3
    assert layout.width == 6


def test_inactive_columns_are_flagged():
    rows = Encoding(SPACE).encode(
        [
            Config.of({"method": "probe"}),
            Config.of({"method": "full", "rate": 1e-3}),
            Config.of({"method": "lora", "rate": 1e-2, "rank": 8, "where": "last"}),
        ]
    )
    assert rows[0].tolist() == [0.5, 0.5, 0, -1, 0, 0]
    np.testing.assert_allclose(rows[1], [0.5, 0.5, 2, -1, 1, 0])
    np.testing.assert_allclose(rows[2, [0, 2, 3, 4, 5]], [1, 1, 1, 1, 1])
    assert 0.4 < rows[2, 1] < 0.6


def test_a_condition_that_always_holds_is_none():
    narrow = SPACE.narrow("method", ("lora",))
    layout = Encoding(narrow).layout
    assert layout.groups == 1
    assert layout.continuous == (0, 0)
    assert layout.categorical == (0,)  # a single option needs no column


def test_descriptors_are_as_spread_as_the_unit_interval():
    choice = Choice(
        name="b",
        options=tuple("pqrs"),
        descriptors=(
            (1e6, 5.0, 0.0),
            (2e6, 5.0, 1.0),
            (3e6, 5.0, 0.0),
            (9e6, 5.0, 1.0),
        ),
    )
    rows = Encoding(Space((choice,))).encode([Config.of({"b": b}) for b in "pqrs"])
    assert rows.shape == (4, 3)  # the constant descriptor is gone
    np.testing.assert_allclose(rows[:, :2].mean(axis=0), 0.5)
    np.testing.assert_allclose(rows[:, :2].std(axis=0), 1 / np.sqrt(12))
