"""How much better than all that is seen a trial can be expected to be."""

import math

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import erfcx, ndtr, ndtri
from scipy.stats import qmc

from fewshot_automl.oracle.linear import cholesky, whiten
from fewshot_automl.oracle.process import Points

JITTER = 1e-6
"""Added to each variance, so that points which nearly agree stay apart."""
PRUNING_SAMPLES = 512
"""Draws in which a seen row must be the best at least once to be compared with."""
LOWEST_BAR = -10.0
"""What must be improved upon at least, in deviations of the scores below average."""
FARTHEST = 1e3
"""Deviations below 0 beyond which an asymptote has more digits."""
ROOT_TWO_PI = math.sqrt(2 * math.pi)
EDGE = 2.0**-32
"""Half of the finest step of a Sobol sequence; keeps normal draws finite."""


class Improvement:
    """Works out the log noisy expected improvement of candidates, one by one.

    The values at what was seen and at what is under way are sampled together from
    the posterior. Given one such sample, the value at a candidate is normal and its
    expected improvement over the best of the sample has a closed form, of which the
    mean over the samples is taken. A candidate that is chosen joins each sample, so
    that the next one is judged by what it adds.

    Source:
        Letham et al., Bayesian Analysis 2019, sec. 4, for the mean over samples of
        closed forms; Ament et al., NeurIPS 2023, eq. 9, for its logarithm.
    """

    def __init__(
        self, seen: Points, pending: Points, *, samples: int, picks: int, seed: int
    ) -> None:
        """Sample the values at the rows that matter.

        Args:
            seen: Rows of the space with a score, each once. Without any, and with
                none pending, the posterior mean decides.
            pending: Rows whose score is to come, apart from those seen.
            samples: How many samples.
            picks: How many candidates will be chosen at most.
            seed: Makes the samples repeatable.
        """
        self._anchors = seen.take(_contenders(seen, seed)).beside(pending)
        count = len(self._anchors.rows)
        draws = normal_draws(samples, count + picks, seed)
        covariance = self._anchors.covariance(self._anchors)
        self._root = cholesky(covariance + JITTER * np.eye(count))
        self._anchor_draws, self._pick_draws = draws[:, :count], draws[:, count:]
        values = self._anchors.means + self._anchor_draws @ self._root.T
        self._best = values.max(axis=1, initial=LOWEST_BAR)

    def values(self, points: Points) -> Float64[np.ndarray, " rows"]:
        """Return the logarithm of each point's expected improvement."""
        means, variances, _ = self._given(points)
        return log_improvement(means - self._best[:, None], _deviations(variances))

    def greedy(
        self, points: Points, bonus: Float64[np.ndarray, " rows"], n: int
    ) -> list[int]:
        """Return up to `n` of the points, each the best given those before it.

        Args:
            points: The candidates.
            bonus: Added to the logarithm of each one's improvement.
            n: How many, up to `picks`.
        """
        means, variances, known = self._given(points)
        best, bonus = self._best, bonus.copy()
        chosen: list[int] = []
        for draws in self._pick_draws.T[: min(n, len(bonus))]:
            deviations = _deviations(variances)
            gains = log_improvement(means - best[:, None], deviations)
            pick = int(np.argmax(gains + bonus))
            chosen.append(pick)
            bonus[pick] = -math.inf
            # What is now known of the pick in each sample tells of all others.
            shared = points.take(np.array([pick])).covariance(points)[0]
            step = (shared - known[:, pick] @ known) / deviations[pick]
            best = np.maximum(best, means[:, pick] + deviations[pick] * draws)
            means = means + np.multiply.outer(draws, step)
            variances = variances - step**2
            known = np.vstack([known, step])
        return chosen

    def _given(
        self, points: Points
    ) -> tuple[
        Float64[np.ndarray, "samples rows"],
        Float64[np.ndarray, " rows"],
        Float64[np.ndarray, "anchors rows"],
    ]:
        """Return means in each sample, variances, and what the anchors say."""
        known = whiten(self._root, self._anchors.covariance(points))
        means = points.means + self._anchor_draws @ known
        return means, points.variances() - np.square(known).sum(axis=0), known


def _deviations(
    variances: Float64[np.ndarray, " rows"],
) -> Float64[np.ndarray, " rows"]:
    return np.asarray(np.sqrt(np.maximum(variances, 0.0) + JITTER))


def log_improvement(
    leads: Float64[np.ndarray, "samples rows"],
    deviations: Float64[np.ndarray, " rows"],
) -> Float64[np.ndarray, " rows"]:
    """Return the log of the mean over samples of the expected improvement.

    Args:
        leads: Mean at each row less the best value so far, in each sample.
        deviations: Standard deviation at each row, above 0.

    >>> log_improvement(np.array([[0.0]]), np.array([1.0])).round(3).tolist()
    [-0.919]
    """
    gains = log_h(leads / deviations)
    most = gains.max(axis=0)
    means = np.log(np.exp(gains - most).mean(axis=0))
    return np.asarray(most + means + np.log(deviations))


def log_h(units: Float64[np.ndarray, "*points"]) -> Float64[np.ndarray, "*points"]:
    """Return the log of the expected positive part of normals of deviation 1.

    Args:
        units: Their means.

    Source:
        Ament et al., NeurIPS 2023, eq. 9: the plain form has no digits left where
        improvement is unlikely.
    """
    logs = np.empty_like(units)
    is_near = units > -1.0
    near, rest = units[is_near], units[~is_near]
    logs[is_near] = np.log(np.exp(-0.5 * near**2) / ROOT_TWO_PI + near * ndtr(near))
    far = np.maximum(rest, -FARTHEST)
    mills = math.sqrt(math.pi / 2) * erfcx(-far / math.sqrt(2))
    # Beyond the farthest, 1 - |u| times the Mills ratio is 1 / u^2.
    tail = np.log1p(far * mills) - 2 * np.log(rest / far)
    logs[~is_near] = -0.5 * rest**2 - math.log(ROOT_TWO_PI) + tail
    return logs


def _contenders(seen: Points, seed: int) -> Int64[np.ndarray, " contenders"]:
    """Return which of the rows may be the best one, as far as one can tell."""
    if not len(seen.rows):
        return np.zeros(0, dtype=np.int64)
    covariance = seen.covariance(seen) + JITTER * np.eye(len(seen.rows))
    draws = np.random.default_rng(seed).standard_normal(
        (PRUNING_SAMPLES, len(seen.rows))
    )
    values = seen.means + draws @ cholesky(covariance).T
    return np.unique(values.argmax(axis=1))


def normal_draws(
    samples: int, dimensions: int, seed: int
) -> Float64[np.ndarray, "samples dimensions"]:
    """Return evenly spread standard normal draws."""
    generator = np.random.default_rng(seed)
    engine = qmc.Sobol(dimensions, scramble=True, rng=generator)
    units = engine.random_base2(max(samples - 1, 1).bit_length())[:samples]
    return np.asarray(ndtri(np.clip(units, EDGE, 1 - EDGE)))
