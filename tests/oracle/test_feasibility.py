import numpy as np
from fewshot_automl.oracle.feasibility import success_probability

from fewshot_automl.oracle.encoding import Encoding
from fewshot_automl.space import Config, Float, Space

ENCODING = Encoding(Space((Float(name="x", low=0.0, high=1.0),)))


def rows(*places):
    return ENCODING.encode([Config.of({"x": x}) for x in places])


def test_without_failures_everything_is_expected_to_finish():
    chances = success_probability(ENCODING.layout, rows(0.1, 0.9), rows(0.5), rows())
    assert chances.tolist() == [1.0, 1.0]


def test_failures_lower_their_neighbourhood_and_successes_raise_it():
    near, far = success_probability(ENCODING.layout, rows(0.1, 0.9), rows(), rows(0.1))
    assert near == 0.5
    assert far > 0.99
    worse = success_probability(ENCODING.layout, rows(0.1), rows(), rows(0.1, 0.11))
    better = success_probability(ENCODING.layout, rows(0.1), rows(0.12), rows(0.1))
    assert worse[0] < near < better[0]
    assert np.all(worse > 0)
