"""One quantity at candidates, given samples of it where it was or will be seen."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import log_ndtr

from fewshot_automl.oracle.improvement import JITTER, log_h
from fewshot_automl.oracle.linear import cholesky, whiten
from fewshot_automl.oracle.process import Points

NEVER = -1e6
"""Logarithm that stands for 0, less how far off a value is: candidates none of which
can be of use still have an order."""
FORBIDDEN = -1e9
"""The same for a limit that a candidate is known to break: worse than any doubt."""
FARTHEST = 1e6
"""What a value can be off at most, on a standard scale."""


@dataclass(frozen=True, slots=True)
class Intervals:
    """Holds intervals of one quantity, each of one sample; ends are shared."""

    ends: Float64[np.ndarray, " ends"]
    """Finite ends, each once a sample."""
    samples: Int64[np.ndarray, " ends"]
    """Sample of each end."""
    low: Int64[np.ndarray, " intervals"]
    """Which end each interval begins at."""
    high: Int64[np.ndarray, " intervals"]
    """Which end it stops at, -1 where it has none."""

    @classmethod
    def of(
        cls,
        samples: Int64[np.ndarray, " intervals"],
        lower: Float64[np.ndarray, " intervals"],
        upper: Float64[np.ndarray, " intervals"],
    ) -> "Intervals":
        """Return the intervals with these ends; upper ones may be infinite."""
        is_closed = np.isfinite(upper)
        ends = np.concatenate([lower, upper[is_closed]])
        owners = np.concatenate([samples, samples[is_closed]])
        order = np.lexsort((ends, owners))
        ends, owners = ends[order], owners[order]
        is_new = np.ones(len(ends), dtype=bool)
        is_new[1:] = (np.diff(ends) != 0) | (np.diff(owners) != 0)
        places = np.empty(len(ends), dtype=np.int64)
        places[order] = np.cumsum(is_new) - 1
        high = np.full(len(lower), -1, dtype=np.int64)
        high[is_closed] = places[len(lower) :]
        return cls(ends[is_new], owners[is_new], places[: len(lower)], high)


@dataclass(frozen=True, slots=True)
class Known:
    """Holds a quantity that is the same in every sample."""

    values: Float64[np.ndarray, " rows"]
    """At each row."""

    def log_lengths(
        self, intervals: Intervals
    ) -> Float64[np.ndarray, "intervals rows"]:
        """Return the log of how much of each interval lies below each value."""
        ends = np.append(intervals.ends, np.inf)
        lower, upper = ends[intervals.low], ends[intervals.high]
        lengths = np.minimum(self.values, upper[:, None]) - lower[:, None]
        none = NEVER + np.clip(lengths, -FARTHEST, 0.0)
        positive = np.maximum(lengths, np.finfo(np.float64).tiny)
        return np.asarray(np.where(lengths > 0, np.log(positive), none))

    def log_chance(self, least: float, most: float) -> Float64[np.ndarray, "1 rows"]:
        """Return 0 for values in a range and `FORBIDDEN` for others."""
        off = np.maximum(np.maximum(least - self.values, self.values - most), 0.0)
        chances = np.where(off > 0, FORBIDDEN - np.minimum(off, FARTHEST), 0.0)
        return np.asarray(chances[None], dtype=np.float64)

    def drawn(
        self, pick: int, draws: Float64[np.ndarray, " samples"]
    ) -> Float64[np.ndarray, " samples"]:
        """Return the value of one row in each sample."""
        return np.full(len(draws), self.values[pick])

    def after(self, pick: int, draws: Float64[np.ndarray, " samples"]) -> "Known":
        """Return what is known once a row was drawn: nothing new."""
        return self


@dataclass(frozen=True, slots=True)
class Learnt:
    """Holds the posterior of a quantity given each sample of it elsewhere."""

    points: Points
    """The rows."""
    means: Float64[np.ndarray, "samples rows"]
    """Mean at each row in each sample."""
    variances: Float64[np.ndarray, " rows"]
    """Variance at each row, the same in each sample."""
    told: Float64[np.ndarray, "anchors rows"]
    """What the anchors say of each row, each in independent units."""

    @property
    def deviations(self) -> Float64[np.ndarray, " rows"]:
        """Return the standard deviation at each row, above 0."""
        return np.asarray(np.sqrt(np.maximum(self.variances, 0.0) + JITTER))

    def log_lengths(
        self, intervals: Intervals
    ) -> Float64[np.ndarray, "intervals rows"]:
        """Return the log of how much of each interval is expected below the value.

        For an interval from a to b that is `E[max(y - a, 0)] - E[max(y - b, 0)]`.
        """
        leads = self.means[intervals.samples] - intervals.ends[:, None]
        gains = log_h(leads / self.deviations)
        lengths = gains[intervals.low]
        closed = np.flatnonzero(intervals.high >= 0)
        beyond = gains[intervals.high[closed]]
        lengths[closed] += log_one_minus(beyond - lengths[closed])
        return np.asarray(lengths + np.log(self.deviations))

    def log_chance(
        self, least: float, most: float
    ) -> Float64[np.ndarray, "samples rows"]:
        """Return the log probability of a range in each sample."""
        lower = (least - self.means) / self.deviations
        upper = (most - self.means) / self.deviations
        if math.isinf(least) or math.isinf(most):
            return np.asarray(log_ndtr(-lower if math.isinf(most) else upper))
        # In the upper half the complements have more digits.
        is_high = lower > 0
        lower, upper = (
            np.where(is_high, -upper, lower),
            np.where(is_high, -lower, upper),
        )
        whole = log_ndtr(upper)
        return np.asarray(whole + log_one_minus(log_ndtr(lower) - whole))

    def drawn(
        self, pick: int, draws: Float64[np.ndarray, " samples"]
    ) -> Float64[np.ndarray, " samples"]:
        """Return the value of one row in each sample, from standard normal draws."""
        return np.asarray(self.means[:, pick] + self.deviations[pick] * draws)

    def after(self, pick: int, draws: Float64[np.ndarray, " samples"]) -> "Learnt":
        """Return the posterior given also the drawn value of one row."""
        row = self.points.take(np.array([pick], dtype=np.int64))
        shared = row.covariance(self.points)[0] - self.told[:, pick] @ self.told
        step = shared / self.deviations[pick]
        return Learnt(
            self.points,
            self.means + np.multiply.outer(draws, step),
            self.variances - step**2,
            np.vstack([self.told, step]),
        )


@dataclass(frozen=True, slots=True)
class Anchors:
    """Holds samples of a quantity at the rows that candidates are compared with."""

    points: Points
    """The rows."""
    root: Float64[np.ndarray, "anchors anchors"]
    """Cholesky root of their covariance."""
    draws: Float64[np.ndarray, "samples anchors"]
    """Standard normal numbers behind the samples."""

    @classmethod
    def of(
        cls, points: Points, draws: Float64[np.ndarray, "samples anchors"]
    ) -> "Anchors":
        """Return samples at some rows, from standard normal draws."""
        jitter = JITTER * np.eye(len(points.rows))
        return cls(points, cholesky(points.covariance(points) + jitter), draws)

    def values(self) -> Float64[np.ndarray, "samples anchors"]:
        """Return the samples."""
        return np.asarray(self.points.means + self.draws @ self.root.T)

    def learnt(self, points: Points) -> Learnt:
        """Return what follows at other rows."""
        told = whiten(self.root, self.points.covariance(points))
        means = points.means + self.draws @ told
        variances = points.variances() - np.square(told).sum(axis=0)
        return Learnt(points, means, variances, told)


def log_one_minus(logs: Float64[np.ndarray, "*rows"]) -> Float64[np.ndarray, "*rows"]:
    """Return the log of what remains of 1 without a part given by its log.

    A part of nearly 1 leaves as much as rounding would.

    >>> log_one_minus(np.log(np.array([0.25, 0.9]))).round(3).tolist()
    [-0.288, -2.303]
    """
    return np.asarray(np.log(-np.expm1(np.minimum(logs, -1e-16))))
