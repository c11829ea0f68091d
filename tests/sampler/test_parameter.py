import pytest
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from fewshot_automl.sampler.parameter import Parameter

DISTRIBUTIONS = {
    "float": (FloatDistribution(-1.0, 2.0), [-1.0, 0.5, 2.0]),
    "log float": (FloatDistribution(1e-5, 1.0, log=True), [1e-5, 3e-3, 1.0]),
    "stepped float": (FloatDistribution(0.1, 0.9, step=0.2), [0.1, 0.5, 0.9]),
    "int": (IntDistribution(-3, 4), [-3, 0, 4]),
    "log int": (IntDistribution(1, 512, log=True), [1, 37, 512]),
    "stepped int": (IntDistribution(8, 64, step=8), [8, 24, 64]),
    "words": (CategoricalDistribution(("adam", "sgd")), ["adam", "sgd"]),
    "numbers": (CategoricalDistribution((64, 16, 32)), [64, 16, 32]),
    "mixed": (CategoricalDistribution((None, True, 0.5, "x")), [None, True, 0.5, "x"]),
}


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
@pytest.mark.parametrize("decides", [False, True])
def test_values_go_in_and_come_out_again(kind, decides):
    distribution, values = DISTRIBUTIONS[kind]
    parameter = Parameter("p", "p", distribution)
    if decides and parameter.can_decide:
        parameter = Parameter("p", "p", distribution, decides=True)
    dimension = parameter.dimension(())
    for value in values:
        inside = parameter.inward(value)
        assert dimension.contains(inside)
        outside = parameter.outward(inside)
        assert outside == pytest.approx(value) if kind.endswith("float") else True
        assert distribution._contains(distribution.to_internal_repr(outside))
        assert type(outside) is type(value)


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_every_place_of_the_dimension_is_allowed_by_optuna(kind):
    distribution, _ = DISTRIBUTIONS[kind]
    parameter = Parameter("p", "p", distribution)
    dimension = parameter.dimension(())
    for step in range(101):
        value = parameter.outward(dimension.decode(step / 100))
        assert distribution._contains(distribution.to_internal_repr(value))


def test_numbers_in_a_list_are_described_by_their_order():
    choice = Parameter("p", "p", CategoricalDistribution((64, 16, 32))).dimension(())
    assert choice.descriptors == ((2.0,), (0.0,), (1.0,))
    words = Parameter("p", "p", CategoricalDistribution(("b", "a", "c"))).dimension(())
    assert words.descriptors is None


def test_only_categories_and_small_integers_can_decide():
    can = {
        kind: Parameter("p", "p", distribution).can_decide
        for kind, (distribution, _) in DISTRIBUTIONS.items()
    }
    assert [kind for kind in can if can[kind]] == [
        "int", "stepped int", "words", "numbers", "mixed",
    ]  # fmt: skip
