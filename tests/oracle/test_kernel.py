import numpy as np
import torch

from fewshot_automl.oracle import RandomOracle
from fewshot_automl.oracle.encoding import Encoding
from fewshot_automl.oracle.scores import calm
from fewshot_automl.space import Choice, Config, Float, Int, Space, When

with calm(0):  # GPyTorch's import meets a deprecation of torch
    from fewshot_automl.oracle.kernel import ConditionalKernel

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
ENCODING = Encoding(SPACE)


def kernel(encoding=ENCODING, seed=None):
    made = ConditionalKernel(encoding.layout)
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in made.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data += noise.to(parameter)
    return made


def covariance(configs, made=None):
    rows = torch.from_numpy(ENCODING.encode(configs))
    with torch.no_grad():
        return (made or kernel())(rows).to_dense().numpy()


def lora(**changes):
    usual = {"method": "lora", "rate": 1e-3, "rank": 8, "where": "all"}
    return Config.of({**usual, **changes})


def test_covariances_are_positive_definite_with_equal_variances():
    configs = RandomOracle().suggest(SPACE, [], 60, 0)
    for seed in range(5):
        made = kernel(seed=seed)
        table = covariance(configs, made)
        np.testing.assert_allclose(np.diag(table), made.value("variance").item())
        np.testing.assert_allclose(table, table.T)
        assert np.linalg.eigvalsh(table).min() > -1e-9
        rows = torch.from_numpy(ENCODING.encode(configs))
        np.testing.assert_allclose(made(rows, diag=True).detach(), np.diag(table))


def test_near_is_more_alike_than_far_and_a_shared_rate_joins_methods():
    configs = [
        lora(),
        lora(rate=1.2e-3),
        lora(rate=1e-2),
        lora(where="last"),
        Config.of({"method": "full", "rate": 1e-3}),
        Config.of({"method": "full", "rate": 1e-2}),
    ]
    table = covariance(configs)
    assert table[0, 0] > table[0, 1] > table[0, 2]
    assert table[0, 3] < table[0, 0]
    assert table[0, 4] > table[0, 5]


def test_batches_give_what_single_rows_give():
    rows = torch.from_numpy(ENCODING.encode(RandomOracle().suggest(SPACE, [], 12, 0)))
    made = kernel()
    with torch.no_grad():
        batched = made(rows[:, None], rows[:4].expand(12, 4, -1)).to_dense()
        plain = made(rows, rows[:4]).to_dense()
    np.testing.assert_allclose(batched[:, 0], plain)


def test_gradients_are_finite_where_rows_repeat():
    rows = torch.from_numpy(ENCODING.encode([lora(), lora(), lora(rank=64)]))
    made = kernel()
    made(rows).to_dense().sum().backward()
    for parameter in made.parameters():
        assert torch.isfinite(parameter.grad).all()
