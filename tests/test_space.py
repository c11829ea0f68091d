import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot_automl.errors import SpaceError, UnknownNameError
from fewshot_automl.space import Choice, Config, Float, Int, Space, When

SPACE = Space(
    (
        Choice(name="method", options=("probe", "lora", "full"), default="lora"),
        Choice(
            name="backbone",
            options=("a", "b", "c"),
            when=(When("method", ("lora", "full")),),
            descriptors=((1.0, 2.0), (2.0, 1.0), (3.0, 0.0)),
        ),
        Int(name="rank", low=1, high=64, log=True, when=(When("method", ("lora",)),)),
        Float(name="rate", low=1e-5, high=1e-1, log=True, default=1e-3),
        Float(
            name="dropout",
            low=0.0,
            high=0.5,
            when=(When("method", ("lora",)), When("backbone", ("b",))),
        ),
    )
)
units = st.lists(st.floats(0, 1, allow_nan=False), min_size=5, max_size=5).map(
    lambda values: np.array(values, dtype=np.float64)
)


@given(units)
def test_every_point_of_the_cube_is_a_config_that_encodes_to_itself(unit):
    config = SPACE.decode(unit)
    SPACE.validate(config)
    again = SPACE.decode(SPACE.encode(config))
    assert set(again) == set(config)
    for name in config:
        if isinstance(config[name], float):
            assert again[name] == pytest.approx(config[name])
        else:
            assert again[name] == config[name]


@given(units)
def test_configs_survive_json_and_pickle_and_hash_alike(unit):
    config = SPACE.decode(unit)
    assert Config.from_json(config.to_json()) == config
    assert pickle.loads(pickle.dumps(config)) == config
    turned = Config.of(dict(reversed(config.items)))
    assert (turned, turned.key, hash(turned)) == (config, config.key, hash(config))


def test_spaces_survive_json():
    assert Space.from_json(json.loads(json.dumps(SPACE.to_json()))) == SPACE
    narrowed = SPACE.narrow("method", ["lora"]).narrow("rank", (4, 4))
    assert Space.from_json(narrowed.to_json()) == narrowed


@pytest.mark.parametrize(
    "row", [{}, {"kind": "Odd"}, 3, {**SPACE.to_json()[2], "stray": 1}]
)
def test_what_is_no_dimension_is_refused(row):
    with pytest.raises(SpaceError, match=r"Space\.to_json"):
        Space.from_json([row])


@pytest.mark.parametrize("low", [1, 3, 64])
def test_every_integer_has_its_share_of_the_unit_interval(low):
    dimension = Int(name="n", low=low, high=64, log=True)
    for value in range(low, 65):
        place = dimension.encode(value)
        assert 0 <= place <= 1
        assert dimension.decode(place) == value
    assert dimension.decode(0.0) == low
    assert dimension.decode(1.0) == 64


def test_defaults_and_given_values_make_a_valid_config():
    assert SPACE.default().to_json() == {
        "method": "lora",
        "backbone": "a",
        "rank": pytest.approx(6, abs=3),
        "rate": 1e-3,
    }
    assert "rank" not in SPACE.default(method="probe", rank=3)
    with pytest.raises(SpaceError, match="rank must be 1 to 64"):
        SPACE.default(rank=65)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "probe"}, "'rate' is missing"),
        ({"method": "probe", "rate": 0.01, "rank": 4}, "'rank' is not active"),
        ({"method": "probe", "rate": 2.0}, "rate must be 1e-05 to 0.1"),
        ({"method": "probe", "rate": 0.01, "x": 1}, "not in this space"),
        ({"method": "probe", "rate": True}, "rate must be"),
    ],
)
def test_what_is_not_in_the_space_is_named(values, message):
    config = Config.of(values)
    assert not SPACE.contains(config)
    with pytest.raises(SpaceError, match=message):
        SPACE.validate(config)


def test_narrowing_drops_what_can_no_longer_be_active():
    probe = SPACE.narrow("method", ["probe"])
    assert probe.names == ("method", "rate")
    some = SPACE.narrow("backbone", ["c", "a"])
    assert some["backbone"].options == ("a", "c")
    assert some["backbone"].descriptors == ((1.0, 2.0), (3.0, 0.0))
    assert "dropout" not in some
    ranks = SPACE.narrow("rank", (4, 8))
    assert (ranks["rank"].low, ranks["rank"].high) == (4, 8)
    assert SPACE.narrow("rate", (1e-2, 1e-1))["rate"].default is None


@pytest.mark.parametrize("ends", [(0, 8), (4,), (4, 8, 16), (4.5, 8)])
def test_ends_outside_the_range_are_refused(ends):
    with pytest.raises(SpaceError, match="two numbers from 1 to 64"):
        SPACE.narrow("rank", ends)


def test_unknown_names_come_with_near_ones():
    with pytest.raises(UnknownNameError, match="Closest: 'lora'"):
        SPACE.narrow("method", ["lorra"])
    with pytest.raises(UnknownNameError, match="Closest: 'rank'"):
        SPACE["rankk"]


def test_size_counts_configs():
    small = Space(
        (
            Choice(name="m", options=("x", "y")),
            Int(name="k", low=1, high=5, when=(When("m", ("y",)),)),
        )
    )
    assert small.size() == 6
    assert SPACE.size() == float("inf")


@pytest.mark.parametrize(
    "dimensions",
    [
        (Int(name="a", low=1, high=2), Int(name="a", low=1, high=2)),
        (Int(name="a", low=1, high=2, when=(When("b", ("x",)),)),),
        (
            Choice(name="b", options=("y",)),
            Int(name="a", low=1, high=2, when=(When("b", ("x",)),)),
        ),
    ],
)
def test_spaces_that_mean_nothing_are_refused(dimensions):
    with pytest.raises(SpaceError):
        Space(dimensions)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Float(name="a", low=1.0, high=0.0),
        lambda: Float(name="a", low=0.0, high=1.0, log=True),
        lambda: Float(name="a", low=0.0, high=float("inf")),
        lambda: Int(name="a", low=1, high=3, default=4),
        lambda: Choice(name="a", options=()),
        lambda: Choice(name="a", options=("x", "x")),
        lambda: Choice(name="a", options=("x",), default="y"),
        lambda: Choice(name="a", options=("x", "y"), descriptors=((1.0,),)),
    ],
)
def test_dimensions_that_mean_nothing_are_refused(make):
    with pytest.raises(SpaceError):
        make()
