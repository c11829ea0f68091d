import numpy as np
from fewshot_automl.oracle.process import Process

from fewshot_automl.oracle.encoding import Layout
from fewshot_automl.oracle.kernel import Kernel

LAYOUT = Layout(continuous=(0, 0), categorical=(), groups=1)
GENERATOR = np.random.default_rng(0)
ROWS, OTHERS = GENERATOR.random((12, 2)), GENERATOR.random((7, 2))
VALUES = np.sin(6 * ROWS[:, 0]) + 3
NOISE = np.full(12, 0.04)
KERNEL = Kernel.of(LAYOUT, np.array([0.3, 0.8, 1.7]))


def test_the_posterior_is_the_textbooks():
    process = Process.given(KERNEL, ROWS, VALUES, NOISE)
    covariance = KERNEL.covariance(ROWS, ROWS) + np.diag(NOISE)
    ones = np.ones(12)
    precision = np.linalg.inv(covariance)
    centre = ones @ precision @ VALUES / (ones @ precision @ ones)
    gain = KERNEL.covariance(OTHERS, ROWS) @ precision
    means = centre + gain @ (VALUES - centre)
    spread = KERNEL.covariance(OTHERS, OTHERS) - gain @ KERNEL.covariance(ROWS, OTHERS)
    points = process.look_up(OTHERS)
    np.testing.assert_allclose(process.means(OTHERS), means)
    np.testing.assert_allclose(points.means, means)
    np.testing.assert_allclose(points.covariance(points), spread, atol=1e-10)
    np.testing.assert_allclose(points.variances(), np.diag(spread), atol=1e-10)


def test_points_can_be_taken_apart_and_put_together():
    process = Process.given(KERNEL, ROWS, VALUES, NOISE)
    whole = process.look_up(OTHERS)
    parts = [process.look_up(rows) for rows in (OTHERS[:3], OTHERS[3:])]
    together = parts[0].beside(parts[1])
    np.testing.assert_allclose(
        together.covariance(whole), whole.covariance(whole), atol=1e-10
    )
    some = whole.take(np.array([5, 1]))
    np.testing.assert_allclose(some.means, whole.means[[5, 1]])
    np.testing.assert_allclose(some.variances(), whole.variances()[[5, 1]])
    nobody = process.look_up(OTHERS[:0])
    assert len(whole.beside(nobody).rows) == 7
