"""How alike two Configs of a mixed, conditional space are."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from scipy.spatial.distance import cdist

from fewshot_automl.oracle.encoding import Layout, activity

MIN_LENGTHSCALE = 0.025
"""As in BoTorch; shorter ones make the covariance a diagonal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Priors:
    """Holds what is believed of positive parameters beforehand: log-normal each."""

    locations: Float64[np.ndarray, " parameters"]
    """Means of the logarithms."""
    deviations: Float64[np.ndarray, " parameters"]
    """Standard deviations of the logarithms."""
    least: Float64[np.ndarray, " parameters"]
    """Lowest values allowed."""

    @classmethod
    def of(cls, table: list[tuple[float, float, float]]) -> "Priors":
        """Return the priors with these locations, deviations and lowest values."""
        columns = np.array(table, dtype=np.float64).reshape(-1, 3).T
        return cls(locations=columns[0], deviations=columns[1], least=columns[2])

    def and_one(self, location: float, deviation: float, least: float) -> "Priors":
        """Return these priors and that of one more parameter."""
        return Priors(
            locations=np.append(self.locations, location),
            deviations=np.append(self.deviations, deviation),
            least=np.append(self.least, least),
        )

    @property
    def log_modes(self) -> Float64[np.ndarray, " parameters"]:
        """Return the logarithms of the most likely values, clear of the lowest."""
        modes = self.locations - self.deviations**2
        return np.asarray(np.maximum(modes, np.log(2 * self.least)))

    def penalty(
        self, logs: Float64[np.ndarray, " parameters"]
    ) -> tuple[float, Float64[np.ndarray, " parameters"]]:
        """Return the negative log density, up to a constant, and its gradient.

        The density is that of the parameters, the gradient by their logarithms.
        """
        away = (logs - self.locations) / self.deviations
        value = float(logs.sum() + 0.5 * away @ away)
        return value, 1 + away / self.deviations


def kernel_priors(layout: Layout) -> Priors:
    """Return the priors of a kernel's parameters, in the order of `Kernel.of`.

    Source:
        Hvarfner et al., ICML 2024, for lengthscale priors that grow with the square
        root of the number of dimensions.
    """
    spans = [layout.continuous.count(g) for g in layout.continuous]
    splits = [layout.categorical.count(g) for g in layout.categorical]
    # The median mismatch makes two options of a lone dimension correlate by 0.5.
    return Priors.of(
        [
            *(
                (math.sqrt(2) + math.log(s) / 2, math.sqrt(3), MIN_LENGTHSCALE)
                for s in spans
            ),
            *((math.log(0.7) - math.log(s) / 2, 1.0, 1e-3) for s in splits),
            *[(math.log(0.5), 1.0, 1e-3)] * (layout.groups - 1),
            (0.0, 0.7, 1e-2),
        ]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    r"""Multiplies one correlation for each group of dimensions.

    Within a group: ARD Matern-5/2 on its continuous columns times
    :math:`\\exp(-\\sum_j w_j [x_j \\ne x'_j])` on its categorical ones. The always
    active group gives its correlation :math:`k_0` as it is. A conditional group with
    activity flags :math:`a, a'` gives

    .. math:: (1 + b a a' k_g) / \\sqrt{(1 + b a) (1 + b a')}

    which is 1 where both are inactive (the group does not count), the constant
    :math:`1/\\sqrt{1 + b}` where only one is, and between :math:`1/(1 + b)` and 1
    where both are. Each factor is a constant plus a positive multiple of a
    positive definite kernel, rescaled to a unit diagonal, so the product is positive
    definite too. Products keep what dimensions do together (a rate that suits one
    backbone and not another); the constant 1 lets trials of different methods
    teach each other about what they share. Conditions are not compared dimension by
    dimension, so a method is no further away for having many of them. To the product
    comes what advice adds, a linear kernel with fixed weights.

    Source:
        Hutter and Osborne, arXiv:1310.5738, and Swersky et al., arXiv:1409.4011, for
        the three cases and their requirements (their arc kernel bends each dimension
        to keep an inactive value equally far from all active ones; adding a constant
        does so without). Ma and Blaschko, arXiv:2006.11771, for covariances that only
        active branches add to.
    """

    layout: Layout
    """What the columns of a row mean."""
    lengthscales: Float64[np.ndarray, " continuous"]
    """Of each continuous column."""
    mismatches: Float64[np.ndarray, " categorical"]
    """How much a different option matters, for each categorical column."""
    branches: Float64[np.ndarray, " conditional"]
    """How much a conditional group matters (`b` above)."""
    scale: float
    """Variance at every row, advice left out."""

    @classmethod
    def of(
        cls, layout: Layout, parameters: Float64[np.ndarray, " parameters"]
    ) -> "Kernel":
        """Return the kernel with these parameters, in the order of the fields.

        What stands behind them is left out.
        """
        numbers = len(layout.continuous)
        columns = numbers + len(layout.categorical)
        last = columns + layout.groups - 1
        return cls(
            layout=layout,
            lengthscales=parameters[:numbers],
            mismatches=parameters[numbers:columns],
            branches=parameters[columns:last],
            scale=float(parameters[last]),
        )

    def covariance(
        self,
        left: Float64[np.ndarray, "left columns"],
        right: Float64[np.ndarray, "right columns"],
    ) -> Float64[np.ndarray, "left right"]:
        """Return the covariance of every left row with every right row."""
        sides = [activity(self.layout, rows) for rows in (left, right)]
        norms = [np.exp(self.log_norms(side)) for side in sides]
        product = np.multiply.outer(self.scale * norms[0], norms[1])
        for group in range(self.layout.groups):
            # Only where both are active is there anything to compute.
            chosen = [np.flatnonzero(side[:, group]) for side in sides]
            block = self._correlation(left[chosen[0]], right[chosen[1]], group)
            if group:
                product[np.ix_(*chosen)] *= 1 + self.branches[group - 1] * block
            else:
                product *= block
        return np.asarray(product + self.advised(left, right))

    def advised(
        self,
        left: Float64[np.ndarray, "left columns"],
        right: Float64[np.ndarray, "right columns"],
    ) -> Float64[np.ndarray, "left right"]:
        """Return what the unknown weights of advice add to the covariance."""
        columns = self.layout.advised
        deviations = np.array([d for _, d in self.layout.advice])
        return np.asarray((left[:, columns] * deviations**2) @ right[:, columns].T)

    def variances(
        self, rows: Float64[np.ndarray, "rows columns"]
    ) -> Float64[np.ndarray, " rows"]:
        """Return the variance at each row."""
        deviations = np.array([d for _, d in self.layout.advice])
        advice = rows[:, self.layout.advised] * deviations
        return np.asarray(self.scale + np.square(advice).sum(axis=1))

    def expected(
        self, rows: Float64[np.ndarray, "rows columns"]
    ) -> Float64[np.ndarray, " rows"]:
        """Return what advice adds to the mean at each row before any trial."""
        means = np.array([mean for mean, _ in self.layout.advice])
        return np.asarray(rows[:, self.layout.advised] @ means)

    def log_norms(
        self, active: Bool[np.ndarray, "rows groups"]
    ) -> Float64[np.ndarray, " rows"]:
        """Return the logarithm of what scales each row's variance back to 1."""
        return np.asarray(active[:, 1:] @ (-0.5 * np.log1p(self.branches)))

    def _correlation(
        self,
        left: Float64[np.ndarray, "left columns"],
        right: Float64[np.ndarray, "right columns"],
        group: int,
    ) -> Float64[np.ndarray, "left right"]:
        """Return the correlation by the columns of one group, taken as active."""
        numbers, options = self.layout.columns(group)
        gap = np.zeros((len(left), len(right)))
        for column in options:
            weight = self.mismatches[column - len(self.layout.continuous)]
            gap += weight * (left[:, column, None] != right[:, column])
        if not numbers:
            return np.exp(-gap)
        scales = self.lengthscales[numbers]
        distance = cdist(left[:, numbers] / scales, right[:, numbers] / scales)
        distance *= math.sqrt(5)
        return np.asarray(matern(distance) * np.exp(-distance - gap))


def matern(distance: Float64[np.ndarray, "*pairs"]) -> Float64[np.ndarray, "*pairs"]:
    """Return the polynomial that a Matern-5/2 correlation multiplies `exp(-r)` with.

    Args:
        distance: Distances in lengthscales, times the square root of 5.
    """
    return np.asarray(1 + distance * (1 + distance / 3))
