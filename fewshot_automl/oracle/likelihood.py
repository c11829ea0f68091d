"""How well a kernel explains scores, and how to change it to explain them better."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from fewshot_automl.oracle.encoding import Layout, activity
from fewshot_automl.oracle.kernel import Kernel, Priors, matern
from fewshot_automl.oracle.linear import cholesky, inverse
from fewshot_automl.oracle.process import Process, centred


@dataclass(frozen=True, slots=True)
class _Group:
    """Holds the pairs of rows on both of which a group is active."""

    pairs: Int64[np.ndarray, " active"]
    """Which of all pairs they are."""
    squares: Float64[np.ndarray, "active numbers"]
    """Squared differences of the group's continuous columns."""
    differs: Float64[np.ndarray, "active options"]
    """1 where the group's categorical columns differ, else 0."""
    numbers: list[int]
    """Which lengthscales are the group's."""
    options: list[int]
    """Which mismatches are the group's."""


@dataclass(frozen=True, slots=True)
class _Slopes:
    """Holds what a gradient needs of a group's correlation, for each of its pairs."""

    share: Float64[np.ndarray, " active"]
    """Relative change of the covariance with that of the correlation."""
    bend: Float64[np.ndarray, " active"]
    """Relative change of the correlation with each scaled squared difference."""


class Pairs:
    """Holds the differences between all pairs of rows; no parameter changes them.

    Only pairs below the diagonal are kept, and of a group's columns only where it is
    active on both sides. So covariances and their gradient by all parameters are a
    few products of these tables with vectors.
    """

    def __init__(
        self, layout: Layout, rows: Float64[np.ndarray, "trials columns"]
    ) -> None:
        """Work out the differences."""
        self.layout = layout
        self.count = len(rows)
        self.low, self.high = np.tril_indices(len(rows), -1)
        active = activity(layout, rows)
        self._active = active
        self._flags = active[:, 1:].astype(np.float64)
        self._places = self.high * len(rows) + self.low  # column by column
        self.rows = rows
        self._groups = [
            self._group(rows, np.flatnonzero(on[self.low] & on[self.high]), group)
            for group, on in enumerate(active.T)
        ]

    def _group(
        self,
        rows: Float64[np.ndarray, "trials columns"],
        pairs: Int64[np.ndarray, " active"],
        group: int,
    ) -> _Group:
        numbers, options = self.layout.columns(group)
        low, high = self.low[pairs], self.high[pairs]
        values, choices = rows[:, numbers], rows[:, options]
        return _Group(
            pairs,
            np.square(values[low] - values[high]),
            (choices[low] != choices[high]).astype(np.float64),
            numbers,
            [column - len(self.layout.continuous) for column in options],
        )

    def matrix(
        self,
        below: Float64[np.ndarray, " pairs"],
        diagonal: Float64[np.ndarray, " trials"],
    ) -> Float64[np.ndarray, "trials trials"]:
        """Return a matrix with these entries below and on the diagonal, else 0."""
        flat = np.zeros(self.count**2)
        flat[self._places] = below
        flat[:: self.count + 1] = diagonal
        return np.asarray(flat.reshape(self.count, self.count).T)

    def below(
        self, matrix: Float64[np.ndarray, "trials trials"]
    ) -> Float64[np.ndarray, " pairs"]:
        """Return the entries of a matrix below its diagonal."""
        return np.asarray(matrix.T.reshape(-1)[self._places])

    def covariances(
        self, kernel: Kernel
    ) -> tuple[Float64[np.ndarray, " pairs"], list[_Slopes]]:
        """Return the covariance of each pair, and what its gradient needs."""
        norms = kernel.log_norms(self._active)
        product = kernel.scale * np.exp(norms[self.low] + norms[self.high])
        slopes = []
        for index, group in enumerate(self._groups):
            gap = group.differs @ kernel.mismatches[group.options]
            if group.numbers:
                weights = 5 / kernel.lengthscales[group.numbers] ** 2
                distance = np.sqrt(group.squares @ weights)
                polynomial = matern(distance)
                correlation = polynomial * np.exp(-distance - gap)
                bend = (1 + distance) / (6 * polynomial)
            else:
                correlation, bend = np.exp(-gap), gap
            if index:
                grown = kernel.branches[index - 1] * correlation
                product[group.pairs] *= 1 + grown
                slopes.append(_Slopes(grown / (1 + grown), bend))
            else:
                product *= correlation
                slopes.append(_Slopes(np.ones_like(correlation), bend))
        return product, slopes

    def gradient(
        self,
        kernel: Kernel,
        slopes: list[_Slopes],
        relative: Float64[np.ndarray, " pairs"],
    ) -> Float64[np.ndarray, " parameters"]:
        """Return the derivative by the logarithms of a kernel's parameters.

        Args:
            kernel: Where the derivative is taken.
            slopes: From `covariances`.
            relative: Derivative by the logarithm of each pair's covariance.
        """
        lengthscales = np.zeros_like(kernel.lengthscales)
        mismatches = np.zeros_like(kernel.mismatches)
        rows = np.bincount(self.low, relative, self.count)
        rows += np.bincount(self.high, relative, self.count)
        odds = kernel.branches / (1 + kernel.branches)
        branches = -0.5 * odds * (rows @ self._flags)
        for index, (group, slope) in enumerate(zip(self._groups, slopes, strict=True)):
            moved = relative[group.pairs] * slope.share
            if index:
                branches[index - 1] += moved.sum()
            if group.numbers:
                weights = 10 / kernel.lengthscales[group.numbers] ** 2
                lengthscales[group.numbers] = weights * (
                    (moved * slope.bend) @ group.squares
                )
            mismatches[group.options] = -kernel.mismatches[group.options] * (
                moved @ group.differs
            )
        return np.concatenate([lengthscales, mismatches, branches, [relative.sum()]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Likelihood:
    """Judges parameters by the marginal likelihood of scores and by priors.

    The constant mean of the process is the one that suits each kernel best.
    """

    pairs: Pairs
    """Differences between the rows of the trials."""
    values: Float64[np.ndarray, " trials"]
    """One score for each."""
    variances: Float64[np.ndarray, " trials"]
    """Of their noise, up to a factor."""
    priors: Priors
    """Of all parameters: those of the kernel, then the factor."""

    def process(
        self,
        rows: Float64[np.ndarray, "trials columns"],
        logs: Float64[np.ndarray, " parameters"],
    ) -> Process:
        """Return the process with these parameters, given the scores at `rows`.

        Raises:
            LinAlgError: If the covariance is not positive definite.
        """
        parameters = np.exp(logs)
        kernel = Kernel.of(self.pairs.layout, parameters)
        noise = parameters[-1] * self.variances
        return Process.given(kernel, rows, self.values, noise)

    def loss(
        self, logs: Float64[np.ndarray, " parameters"]
    ) -> tuple[float, Float64[np.ndarray, " parameters"]]:
        """Return the negative log posterior density a trial, and its gradient.

        Args:
            logs: Logarithms of the parameters of the kernel and of the noise's factor.

        Raises:
            LinAlgError: If the covariance is not positive definite.

        Source:
            Rasmussen and Williams, 2006, eqs. 5.8 and 5.9.
        """
        pairs, parameters = self.pairs, np.exp(logs)
        kernel = Kernel.of(pairs.layout, parameters)
        noise = parameters[-1] * self.variances
        shared, slopes = pairs.covariances(kernel)
        root = cholesky(
            pairs.matrix(shared, kernel.scale + noise)
            + kernel.advised(pairs.rows, pairs.rows)
        )
        values = self.values - kernel.expected(pairs.rows)
        centre, weights = centred(root, values)
        fit = 0.5 * (values - centre) @ weights + np.log(np.diag(root)).sum()
        inverted = inverse(root)
        off = pairs.below(inverted) - weights[pairs.low] * weights[pairs.high]
        own = 0.5 * (np.diag(inverted) - weights**2)
        slope = pairs.gradient(kernel, slopes, off * shared)
        slope[-1] += kernel.scale * own.sum()
        slope = np.append(slope, own @ noise)
        penalty, steer = self.priors.penalty(logs)
        constant = 0.5 * math.log(2 * math.pi)
        value = (float(fit) + penalty) / pairs.count + constant
        return value, (slope + steer) / pairs.count
