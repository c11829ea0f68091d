import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot_automl.oracle import RandomOracle
from fewshot_automl.oracle.encoding import Encoding
from fewshot_automl.oracle.kernel import ConditionalKernel
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
    rows = torch.from_numpy(ENCODING.encode(configs))
    return kernel(rows).to_dense().detach().numpy()


def scrambled(seed):
    """Return the kernel with parameters far from where they start."""
    kernel = ConditionalKernel(ENCODING.layout)
    generator = np.random.default_rng(seed)
    for parameter in kernel.parameters():
        values = 0.03 + generator.lognormal(sigma=2.0, size=tuple(parameter.shape))
        parameter.data = torch.from_numpy(values)
    return kernel


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_it_is_a_covariance_for_any_parameters(seed):
    kernel = scrambled(seed)
    matrix = covariance(kernel, RandomOracle().suggest(SPACE, [], 40, seed))
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-10)
    scale = kernel.raw_scale.item()
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
    assert covariance(kernel, [full[0], full[1], lora])[0, 1] < kernel.raw_scale.item()


def test_batches_agree_with_single_matrices():
    kernel = scrambled(5)
    rows = torch.from_numpy(
        ENCODING.encode(RandomOracle().suggest(SPACE, [], 12, 0))
    ).reshape(3, 4, -1)
    left, right = rows[:, :3], rows[:1, 1:]
    together = kernel(left, right).to_dense()
    apart = torch.stack([kernel(a, right[0]).to_dense() for a in left])
    torch.testing.assert_close(together, apart)
    torch.testing.assert_close(
        kernel(rows, diag=True), kernel(rows).to_dense().diagonal(dim1=-2, dim2=-1)
    )


def test_gradients_are_finite_where_points_coincide():
    kernel = ConditionalKernel(ENCODING.layout)
    rows = torch.from_numpy(ENCODING.encode(RandomOracle().suggest(SPACE, [], 8, 0)))
    kernel(torch.cat([rows, rows])).to_dense().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in kernel.parameters())
