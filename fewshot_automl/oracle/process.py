"""A Gaussian process given scores: means and covariances anywhere."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from fewshot_automl.oracle.kernel import Kernel
from fewshot_automl.oracle.linear import cholesky, solve, whiten


@dataclass(frozen=True, slots=True)
class Process:
    """Holds a Gaussian process, constant but for advice, given noisy scores."""

    kernel: Kernel
    """How alike rows are."""
    rows: Float64[np.ndarray, "trials columns"]
    """Where scores are known."""
    root: Float64[np.ndarray, "trials trials"]
    """Cholesky root of their covariance, noise included."""
    weights: Float64[np.ndarray, " trials"]
    """What each score adds to a mean, a unit of covariance."""
    centre: float
    """Mean far from all rows, advice left out."""

    @classmethod
    def given(
        cls,
        kernel: Kernel,
        rows: Float64[np.ndarray, "trials columns"],
        values: Float64[np.ndarray, " trials"],
        noise: Float64[np.ndarray, " trials"],
    ) -> "Process":
        """Return the process given these scores with these noise variances.

        Raises:
            LinAlgError: If the covariance is not positive definite.
        """
        root = cholesky(kernel.covariance(rows, rows) + np.diag(noise))
        centre, weights = centred(root, values - kernel.expected(rows))
        return cls(kernel, rows, root, weights, centre)

    def means(
        self, rows: Float64[np.ndarray, "rows columns"]
    ) -> Float64[np.ndarray, " rows"]:
        """Return the posterior means."""
        known = self.kernel.covariance(rows, self.rows) @ self.weights
        return np.asarray(self.centre + self.kernel.expected(rows) + known)

    def look_up(self, rows: Float64[np.ndarray, "rows columns"]) -> "Points":
        """Return the process at some rows."""
        shared = self.kernel.covariance(self.rows, rows)
        means = self.centre + self.kernel.expected(rows) + self.weights @ shared
        return Points(self, rows, means, whiten(self.root, shared))


@dataclass(frozen=True, slots=True)
class Points:
    """Holds a process at a number of rows, so that joint posteriors are cheap."""

    process: Process
    """What is known everywhere."""
    rows: Float64[np.ndarray, "rows columns"]
    """Where."""
    means: Float64[np.ndarray, " rows"]
    """Posterior mean of each row."""
    whitened: Float64[np.ndarray, "trials rows"]
    """What the trials say of each row, each in independent units."""

    def covariance(self, other: "Points") -> Float64[np.ndarray, "rows others"]:
        """Return the posterior covariance of every row with every other row."""
        prior = self.process.kernel.covariance(self.rows, other.rows)
        return np.asarray(prior - self.whitened.T @ other.whitened)

    def variances(self) -> Float64[np.ndarray, " rows"]:
        """Return the posterior variance of each row."""
        known = np.square(self.whitened).sum(axis=0)
        return np.asarray(self.process.kernel.variances(self.rows) - known)

    def take(self, chosen: Int64[np.ndarray, " chosen"]) -> "Points":
        """Return some of the rows."""
        return Points(
            self.process,
            self.rows[chosen],
            self.means[chosen],
            self.whitened[:, chosen],
        )

    def beside(self, other: "Points") -> "Points":
        """Return these rows and then the others."""
        return Points(
            self.process,
            np.vstack([self.rows, other.rows]),
            np.concatenate([self.means, other.means]),
            np.hstack([self.whitened, other.whitened]),
        )


def centred(
    root: Float64[np.ndarray, "trials trials"],
    values: Float64[np.ndarray, " trials"],
) -> tuple[float, Float64[np.ndarray, " trials"]]:
    """Return the likeliest constant mean and the weights of the scores less it.

    Args:
        root: Cholesky root of the covariance of the scores, noise included.
        values: The scores.
    """
    solved = solve(root, np.stack([values, np.ones_like(values)], axis=1))
    centre = float(solved[:, 0].sum() / solved[:, 1].sum())
    return centre, solved[:, 0] - centre * solved[:, 1]
