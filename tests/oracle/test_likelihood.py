import numpy as np
import pytest
from fewshot_automl.oracle.likelihood import Likelihood, Pairs
from scipy.stats import multivariate_normal

from fewshot_automl.oracle import RandomOracle
from fewshot_automl.oracle.encoding import Encoding
from fewshot_automl.oracle.kernel import Kernel, Priors, kernel_priors
from fewshot_automl.space import Choice, Float, Int, Space, When

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
LAYOUT = ENCODING.layout
ROWS = ENCODING.encode(RandomOracle().suggest(SPACE, [], 20, 0))
PAIRS = Pairs(LAYOUT, np.vstack([ROWS, ROWS[:2]]))  # two trials stand twice
VALUES = np.random.default_rng(1).standard_normal(22)


def likelihood():
    return Likelihood(
        pairs=PAIRS,
        values=VALUES,
        variances=np.linspace(0.01, 0.3, 22),
        priors=kernel_priors(LAYOUT).and_one(-1.0, 1.0, 1e-4),
    )


def somewhere(priors, seed):
    draw = np.random.default_rng(seed).standard_normal(len(priors.locations))
    return priors.log_modes + 0.5 * draw


def test_pairs_agree_with_the_kernel():
    kernel = Kernel.of(LAYOUT, np.exp(somewhere(kernel_priors(LAYOUT), 0)))
    whole = kernel.covariance(ROWS, ROWS)
    pairs = Pairs(LAYOUT, ROWS)
    below, _ = pairs.covariances(kernel)
    np.testing.assert_allclose(below, pairs.below(whole), rtol=1e-12)
    np.testing.assert_allclose(
        pairs.matrix(below, np.diag(whole)), np.tril(whole), rtol=1e-12
    )


def test_the_gradient_is_that_of_finite_differences():
    judge = likelihood()
    logs = somewhere(judge.priors, 3)
    steps = 1e-5 * np.eye(len(logs))
    ahead, behind = (
        np.array([judge.loss(logs + sign * step)[0] for step in steps])
        for sign in (1, -1)
    )
    np.testing.assert_allclose(
        judge.loss(logs)[1], (ahead - behind) / 2e-5, atol=1e-8, rtol=1e-6
    )


def test_the_loss_is_a_normal_density_and_the_priors():
    judge = likelihood()
    logs = somewhere(judge.priors, 4)
    process = judge.process(np.vstack([ROWS, ROWS[:2]]), logs)
    covariance = process.root @ process.root.T
    density = multivariate_normal(np.full(22, process.centre), covariance)
    expected = judge.priors.penalty(logs)[0] - density.logpdf(VALUES)
    assert judge.loss(logs)[0] == pytest.approx(expected / 22)
    for shift in (-0.1, 0.1):  # no other mean is likelier
        other = multivariate_normal(np.full(22, process.centre + shift), covariance)
        assert other.logpdf(VALUES) < density.logpdf(VALUES)


def test_no_covariance_is_said():
    judge = Likelihood(
        pairs=PAIRS,
        values=VALUES,
        variances=np.full(22, -1.0),
        priors=Priors.of([(0.0, 1.0, 1e-3)] * (len(kernel_priors(LAYOUT).least) + 1)),
    )
    with pytest.raises(np.linalg.LinAlgError, match="positive definite"):
        judge.loss(judge.priors.log_modes)
