import numpy as np
import pytest
import torch
from fewshot_automl.oracle.improvement import Improvement, log_h
from fewshot_automl.oracle.process import Process
from scipy.stats import norm

from fewshot_automl.oracle.encoding import Layout
from fewshot_automl.oracle.kernel import Kernel

LAYOUT = Layout(continuous=(0, 0), categorical=(), groups=1)
GENERATOR = np.random.default_rng(0)
ROWS, PENDING, OTHERS = (GENERATOR.random((n, 2)) for n in (10, 2, 40))
VALUES = np.sin(6 * ROWS[:, 0]) + 0.2 * GENERATOR.standard_normal(10)
NOISE = np.full(10, 0.04)
LENGTHSCALES, SCALE = np.array([0.3, 0.8]), 1.7
PROCESS = Process.given(
    Kernel.of(LAYOUT, np.append(LENGTHSCALES, SCALE)), ROWS, VALUES, NOISE
)


def improvement(pending, samples=1024, picks=4):
    return Improvement(
        PROCESS.look_up(ROWS),
        PROCESS.look_up(pending),
        samples=samples,
        picks=picks,
        seed=0,
    )


def plain_improvement(candidates, others, draws=100_000):
    """Return what candidates add to the best of others, by plain Monte Carlo."""
    points = PROCESS.look_up(np.vstack([others, candidates]))
    root = np.linalg.cholesky(
        points.covariance(points) + 1e-9 * np.eye(len(points.rows))
    )
    normal = np.random.default_rng(1).standard_normal((draws, len(root)))
    values = points.means + normal @ root.T
    best = values[:, : len(others)].max(axis=1, keepdims=True)
    return np.maximum(values[:, len(others) :] - best, 0).mean(axis=0)


def test_log_h_keeps_its_digits():
    units = np.array([-2.0, -1.0, -0.999999, 0.0, 3.0, 50.0])
    plain = np.log(norm.pdf(units) + units * norm.cdf(units))
    np.testing.assert_allclose(log_h(units), plain, rtol=1e-9)
    # Beyond: -u^2 / 2 - log(sqrt(2 pi) u^2) and a series in 1 / u^2.
    far = -np.array([50.0, 900.0, 1100.0, 1e5])
    series = np.log1p(-3 / far**2 + 15 / far**4)
    expected = -(far**2) / 2 - np.log(np.sqrt(2 * np.pi) * far**2) + series
    np.testing.assert_allclose(log_h(far), expected, rtol=1e-10)
    rising = log_h(np.linspace(-2000, 10, 20_001))
    assert (np.diff(rising) > 0).all()


@pytest.mark.parametrize("pending", [PENDING[:0], PENDING], ids=["none", "two"])
def test_values_are_the_expected_improvement(pending):
    found = improvement(pending)
    points = PROCESS.look_up(OTHERS)
    gains = np.exp(found.values(points))
    plain = plain_improvement(OTHERS, np.vstack([ROWS, pending]))
    np.testing.assert_allclose(gains, plain, rtol=0.05, atol=2e-4)


def test_each_pick_is_the_best_given_those_before_it():
    picks = improvement(PENDING).greedy(PROCESS.look_up(OTHERS), np.zeros(40), 3)
    known = np.vstack([ROWS, PENDING])
    for pick in picks:
        gains = plain_improvement(OTHERS, known)
        assert gains[pick] >= 0.97 * gains.max()
        known = np.vstack([known, OTHERS[pick]])
    assert len(set(picks)) == 3


def test_a_bonus_can_decide_and_no_more_are_picked_than_there_are():
    bonus = np.zeros(40)
    bonus[7] = 100.0
    assert improvement(PENDING).greedy(PROCESS.look_up(OTHERS), bonus, 1) == [7]
    few = PROCESS.look_up(OTHERS[:3])
    assert sorted(improvement(PENDING).greedy(few, np.zeros(3), 4)) == [0, 1, 2]


def test_with_nothing_seen_the_posterior_mean_decides():
    points, nobody = PROCESS.look_up(OTHERS), PROCESS.look_up(OTHERS[:0])
    found = Improvement(nobody, nobody, samples=8, picks=2, seed=0)
    assert np.argmax(found.values(points)) == np.argmax(points.means)
    assert len(found.greedy(points, np.zeros(40), 2)) == 2
    assert found.greedy(nobody, np.zeros(0), 2) == []


@pytest.mark.filterwarnings("ignore::Warning")  # botorch's and torch's own
def test_botorch_agrees():
    """Its acquisition by plain sampling, on its own model of the same process."""
    from botorch.acquisition.logei import qLogNoisyExpectedImprovement
    from botorch.models import SingleTaskGP
    from botorch.sampling import SobolQMCNormalSampler
    from gpytorch.kernels import MaternKernel, ScaleKernel

    rows, values = torch.from_numpy(ROWS), torch.from_numpy(VALUES)
    covariance = ScaleKernel(MaternKernel(nu=2.5, ard_num_dims=2)).double()
    model = SingleTaskGP(
        rows,
        values.unsqueeze(-1),
        torch.from_numpy(NOISE).unsqueeze(-1),
        covar_module=covariance,
        outcome_transform=None,
    )
    covariance.outputscale = SCALE
    covariance.base_kernel.lengthscale = torch.from_numpy(LENGTHSCALES)
    model.mean_module.constant = PROCESS.centre
    model.eval()
    points, others = PROCESS.look_up(OTHERS), torch.from_numpy(OTHERS)
    with torch.no_grad():
        posterior = model.posterior(others)
        np.testing.assert_allclose(
            posterior.mean.squeeze(-1).numpy(), points.means, atol=1e-7
        )
        np.testing.assert_allclose(
            posterior.variance.squeeze(-1).numpy(), points.variances(), atol=1e-6
        )
        acquisition = qLogNoisyExpectedImprovement(
            model,
            X_baseline=rows,
            sampler=SobolQMCNormalSampler(torch.Size([4096]), seed=0),
            prune_baseline=False,
        )
        theirs = acquisition(others.unsqueeze(-2)).numpy()
    ours = improvement(PENDING[:0]).values(points)
    likely = ours > np.log(1e-3)
    assert likely.sum() > 10
    np.testing.assert_allclose(ours[likely], theirs[likely], atol=0.1)
    assert np.argmax(ours) == np.argmax(theirs)
