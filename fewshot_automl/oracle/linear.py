"""Cholesky roots and what is done with them, without a wrapper's cost a call."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from jaxtyping import Float64
from numpy.linalg import LinAlgError
from scipy.linalg import lapack
from threadpoolctl import threadpool_limits


@contextmanager
def single_threaded() -> Iterator[None]:
    """Let linear algebra use one thread in this context.

    Matrices of a few hundred rows gain nothing from a second one, and where another
    process has its core, waiting for it made a fit a hundred times slower.
    """
    with threadpool_limits(1, "blas"):
        yield


def cholesky(
    matrix: Float64[np.ndarray, "rows rows"],
) -> Float64[np.ndarray, "rows rows"]:
    """Return the lower root of a covariance of which only the lower half is read.

    Raises:
        LinAlgError: If it is not positive definite.
    """
    if not len(matrix):
        return matrix  # LAPACK wants at least one row, here and below
    root, info = lapack.dpotrf(matrix, lower=1, clean=1)
    if info or not np.isfinite(root[-1, -1]):
        raise LinAlgError(
            f"Covariance must be positive definite, got none at row {info}."
        )
    return np.asarray(root, dtype=np.float64)


def solve(
    root: Float64[np.ndarray, "rows rows"],
    right: Float64[np.ndarray, "rows columns"],
) -> Float64[np.ndarray, "rows columns"]:
    """Return the solution for the covariance with this root."""
    solution, _ = lapack.dpotrs(root, right, lower=1)
    return np.asarray(solution, dtype=np.float64)


def whiten(
    root: Float64[np.ndarray, "rows rows"],
    right: Float64[np.ndarray, "rows columns"],
) -> Float64[np.ndarray, "rows columns"]:
    """Return the solution for the root itself; neither side need have rows."""
    if not len(root):
        return right
    solution, _ = lapack.dtrtrs(root, right, lower=1)
    return np.asarray(solution, dtype=np.float64)


def inverse(
    root: Float64[np.ndarray, "rows rows"],
) -> Float64[np.ndarray, "rows rows"]:
    """Return the lower half of the inverse of the covariance with this root."""
    inverted, _ = lapack.dpotri(root, lower=1)
    return np.asarray(inverted, dtype=np.float64)
