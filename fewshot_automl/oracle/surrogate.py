"""A Gaussian process on encoded Configs: what it is fitted to, and how."""

import logging
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy.linalg import LinAlgError
from scipy.optimize import Bounds, minimize

from fewshot_automl.errors import RunError
from fewshot_automl.oracle.evidence import Evidence
from fewshot_automl.oracle.kernel import kernel_priors
from fewshot_automl.oracle.likelihood import Likelihood, Pairs
from fewshot_automl.oracle.process import Process

logger = logging.getLogger(__name__)

ATTEMPTS = ((1e-4, 0.0, True), (1e-2, 1.0, True), (1e-2, 0.0, False))
"""Least noise variance, in units of the score variance, how far from the modes of
the priors tuning starts, in their deviations, and whether parameters are tuned:
first what is best, then what is safe."""
NOISE_PRIOR = (-4.0, 1.0)
"""Of the logarithm of a common noise variance, as in BoTorch."""
SHARE_PRIOR = (math.log(0.2) + 0.8**2, 0.8)
"""Of the logarithm of the share of the squared standard errors that is noise between
Configs: most likely 0.2, and hardly below 0.05 or above 0.8. All Configs are scored on
the same examples, so that luck with these is common to them and ranks nothing."""
LEAST_SHARE = 0.02
"""Lowest such share."""
MOST_LOG = 12.0
"""Largest logarithm of a parameter; the priors never want that much."""
TOLERANCE = 1e-6
"""Relative gain a step below which a fit is done; no suggestion needs more digits."""
MOST_NOISE = 100.0
"""Largest standard error, in units of the standard deviation of the scores."""
MOST_ERROR = 1e100
"""The same, in units of the widest score, before it is divided by anything."""
FENCE = 3.0
"""Quartile distances below the lower quartile at which a score is far out."""


class SurrogateError(RunError):
    """No Gaussian process could be fitted to the history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Holds numbers on a standard scale: mean 0, standard deviation 1."""

    values: Float64[np.ndarray, " trials"]
    """Standardised numbers."""
    variances: Float64[np.ndarray, " trials"]
    """Of the noise on the same scale, up to a factor that is to be learnt."""
    has_errors: bool
    """Whether these are squared standard errors; else they are all 1."""
    centre: float
    """What 0 stands for."""
    unit: float
    """What 1 stands for, less the centre."""


def standardised(
    numbers: Float64[np.ndarray, " trials"],
    standard_errors: Float64[np.ndarray, " trials"],
) -> Scores:
    """Return scores as the surrogate wants them.

    A diverged training can score far below all others; it would flatten every other
    difference. It only matters that it is bad, so scores beyond the lower outer fence
    are moved onto it. A missing standard error is taken as the median of those known.
    None is taken as less than a third of that median: folds that agree by chance are
    not free of noise.

    Args:
        numbers: Scores of any scale, not all equal.
        standard_errors: Their standard errors; NaN where unknown.

    Source:
        Tukey, Exploratory Data Analysis, 1977, for the outer fence of 3 quartile
        distances.
    """
    # Divided by the largest first, so that squares neither overflow nor vanish.
    whole = float(np.abs(numbers).max()) or 1.0
    middle = float((numbers / whole).mean())
    shares = numbers / whole - middle
    reach = float(np.abs(shares).max())
    values, middle, size = shares / reach, middle * whole, reach * whole
    lower, upper = np.quantile(values, [0.25, 0.75])
    if upper > lower:
        values = np.maximum(values, lower - FENCE * (upper - lower))
    centre, deviation = float(values.mean()), float(values.std())
    known = np.isfinite(standard_errors)
    errors = np.full(len(numbers), MOST_ERROR)
    is_fair = known & (standard_errors / MOST_ERROR < size)
    np.divide(standard_errors, size, out=errors, where=is_fair)
    errors /= deviation
    variances = np.ones(len(numbers))
    if known.any():
        usual = float(np.median(errors[known]))
        variances = np.clip(np.where(known, errors, usual), usual / 3, MOST_NOISE) ** 2
    return Scores(
        values=(values - centre) / deviation,
        variances=variances,
        has_errors=bool(known.any()),
        centre=middle + size * centre,
        unit=size * deviation,
    )


@dataclass(frozen=True, slots=True)
class Surrogate:
    """Holds a fitted Gaussian process and what stands behind its standard scale."""

    process: Process
    """The process, on the standard scale."""
    scores: Scores
    """What it was fitted to."""
    evidence: Evidence
    """Encodes Configs as the process knows them."""
    factor: float
    """What the scores' variances were multiplied with."""
    loss: float
    """Negative log posterior density a trial of its parameters."""

    def means(
        self, rows: Float64[np.ndarray, "rows columns"]
    ) -> Float64[np.ndarray, " rows"]:
        """Return the posterior means at encoded Configs, on the original scale."""
        means = self.process.means(rows)
        return np.asarray(self.scores.centre + self.scores.unit * means)


def fit_scores(evidence: Evidence, *, steps: int, seed: int) -> Surrogate:
    """Return a Gaussian process for the score, with the known noise.

    Where there is advice, a process without it is fitted too, and kept if it explains
    the scores better: advice that the trials speak against is not followed at all.

    Raises:
        SurrogateError: If the fit fails in every way that `fit` knows.
    """
    scores = standardised(*evidence.scores().T)
    fitted = fit(evidence, scores, steps=steps, seed=seed)
    if evidence.advisers:
        plain = fit(evidence.plain, scores, steps=steps, seed=seed)
        if plain.loss < fitted.loss:
            return plain
    return fitted


def fit(evidence: Evidence, scores: Scores, *, steps: int, seed: int) -> Surrogate:
    """Return a Gaussian process fitted to the done trials by marginal likelihood.

    A fit that fails numerically is tried once more with a higher floor under the
    noise and from another start, and then with the parameters left at the modes of
    their priors. Both are logged.

    Args:
        evidence: The trials.
        scores: One number for each done trial.
        steps: Most steps of L-BFGS-B.
        seed: For the second start after a failed one.

    Raises:
        SurrogateError: If none of this gives a usable posterior.
    """
    rows = evidence.rows("done")
    pairs = Pairs(evidence.layout, rows)
    for floor, away, is_tuned in ATTEMPTS:
        try:
            likelihood = likelihood_of(pairs, scores, floor)
            logs = likelihood.priors.log_modes
            if is_tuned:
                draw = np.random.default_rng(seed).standard_normal(len(logs))
                start = logs + away * likelihood.priors.deviations * draw
                logs = tuned(likelihood, start, steps)
            process = likelihood.process(rows, logs)
            loss = likelihood.loss(logs)[0]
        except LinAlgError as error:
            logger.warning(
                "GP fit on %d trials failed (noise floor %g, tuned: %s): %s",
                len(rows),
                floor,
                is_tuned,
                error,
            )
        else:
            return Surrogate(process, scores, evidence, float(np.exp(logs[-1])), loss)
    raise SurrogateError(
        "The covariance of the Gaussian process must be positive definite, got none "
        f"that is on {len(rows)} trials. Report the history to the developers."
    )


def likelihood_of(pairs: Pairs, scores: Scores, floor: float) -> Likelihood:
    """Return what judges the parameters of a fit.

    Args:
        pairs: Differences between the trials.
        scores: Their scores.
        floor: Least noise variance.
    """
    prior, least = (
        (SHARE_PRIOR, LEAST_SHARE) if scores.has_errors else (NOISE_PRIOR, floor)
    )
    return Likelihood(
        pairs=pairs,
        values=scores.values,
        variances=np.maximum(scores.variances, floor / least),
        priors=kernel_priors(pairs.layout).and_one(*prior, least),
    )


def tuned(
    likelihood: Likelihood, start: Float64[np.ndarray, " parameters"], steps: int
) -> Float64[np.ndarray, " parameters"]:
    """Return the logarithms of better parameters, after at most so many steps."""
    lowest = np.log(likelihood.priors.least)
    result = minimize(
        likelihood.loss,
        np.clip(start, lowest, MOST_LOG),
        jac=True,
        method="L-BFGS-B",
        bounds=Bounds(lowest, MOST_LOG),
        options={"maxiter": steps, "ftol": TOLERANCE},
    )
    return np.asarray(result.x, dtype=np.float64)
