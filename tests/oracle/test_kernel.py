import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import lognorm

from fewshot_automl.oracle import RandomOracle
from fewshot_automl.oracle.encoding import Encoding
from fewshot_automl.oracle.kernel import Kernel, kernel_priors
from fewshot_automl.space import Choice, Config, Float, Int, Space, When

LORA = When("method", ("lora",))
SPACE = Space(
    (
        Choice(name="method", options=("probe", "lora", "full")),
        Float(name="rate", low=0.0, high=1.0, when=(When("method", ("lora", "full")),)),
        Int(name="rank", low=1, high=64, log=True, when=(LORA,)),
        Choice(name="where", options=("all", "last"), when=(LORA,)),
        Float(name="decay", low=0.0, high=1.0),
    )
)
ENCODING = Encoding(SPACE)


def covariance(kernel, configs):
    rows = ENCODING.encode(configs)
    return kernel.covariance(rows, rows)


def scrambled(seed):
    """Return the kernel with parameters far from where they start."""
    generator = np.random.default_rng(seed)
    count = len(kernel_priors(ENCODING.layout).log_modes)
    values = 0.03 + generator.lognormal(sigma=2.0, size=count)
    return Kernel.of(ENCODING.layout, values)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_it_is_a_covariance_for_any_parameters(seed):
    kernel = scrambled(seed)
    matrix = covariance(kernel, RandomOracle().suggest(SPACE, [], 40, seed))
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-10)
    scale = kernel.scale
    np.testing.assert_allclose(np.diag(matrix), scale, rtol=1e-6)
    assert np.linalg.eigvalsh(matrix / scale).min() > -1e-9


def test_an_inactive_dimension_does_not_count():
    kernel = scrambled(3)
    probe = Config.of({"method": "probe", "decay": 0.5})
    full = [Config.of({"method": "full", "decay": 0.5, "rate": r}) for r in (0.1, 0.9)]
    to_probe = covariance(kernel, [probe, *full])[0, 1:]
    assert to_probe[0] == pytest.approx(to_probe[1])  # a constant on one side only
    lora = Config.of(
        {"method": "lora", "decay": 0.5, "rate": 0.1, "rank": 8, "where": "all"}
    )
    assert covariance(kernel, [full[0], full[1], lora])[0, 1] < kernel.scale


def test_left_and_right_rows_may_differ():
    kernel = scrambled(5)
    rows = ENCODING.encode(RandomOracle().suggest(SPACE, [], 12, 0))
    whole = kernel.covariance(rows, rows)
    np.testing.assert_allclose(kernel.covariance(rows[:3], rows[5:]), whole[:3, 5:])
    assert kernel.covariance(rows[:0], rows).shape == (0, 12)


def test_a_group_alone_is_a_matern_correlation():
    """Compared with the textbook's form, on the two dimensions that `full` has."""
    kernel = scrambled(8)
    places = [(0.1, 0.2), (0.4, 0.9), (0.8, 0.3)]
    configs = [Config.of({"method": "full", "rate": r, "decay": d}) for r, d in places]
    layout, found = ENCODING.layout, covariance(kernel, configs)
    expected = np.full((3, 3), kernel.scale)
    for column, place in ((0, 0), (2, 1)):  # the rank stands between them
        x = np.array([p[place] for p in places])
        gap = abs(x[:, None] - x) / kernel.lengthscales[column]
        r = np.sqrt(5) * gap
        matern = (1 + r + r**2 / 3) * np.exp(-r)
        group = layout.continuous[column]
        b = kernel.branches[group - 1] if group else None
        expected *= matern if b is None else (1 + b * matern) / (1 + b)
    np.testing.assert_allclose(found, expected)


def test_priors_speak_of_the_parameters_themselves():
    """The modes are those of the density of the parameters, not of their logs."""
    priors = kernel_priors(ENCODING.layout)
    value, slope = priors.penalty(priors.log_modes)
    unbound = priors.log_modes > np.log(2.1 * priors.least)
    np.testing.assert_allclose(slope[unbound], 0, atol=1e-12)
    densities = [
        lognorm.logpdf(np.exp(log), deviation, scale=np.exp(location))
        for log, deviation, location in zip(
            priors.log_modes, priors.deviations, priors.locations, strict=True
        )
    ]
    constant = np.log(priors.deviations * np.sqrt(2 * np.pi)).sum()
    assert value == pytest.approx(-sum(densities) - constant)
