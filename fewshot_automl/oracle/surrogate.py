"""A Gaussian process on encoded Configs: what it is fitted to, and how."""

import logging
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from fewshot_automl.errors import RunError
from fewshot_automl.oracle.encoding import Layout
from fewshot_automl.oracle.evidence import Evidence
from fewshot_automl.oracle.kernel import ConditionalKernel
from fewshot_automl.oracle.libraries import (
    ExactMarginalLogLikelihood,
    ModelFittingError,
    NanError,
    NotPSDError,
    OptimizationWarning,
    SingleTaskGP,
    fit_gpytorch_mll,
    validate_input_scaling,
)

logger = logging.getLogger(__name__)

NUMERICAL_ERRORS = (ModelFittingError, NotPSDError, NanError, LinAlgError)
"""What a covariance that is too close to singular makes the libraries raise."""
ATTEMPTS = ((1e-4, True), (1e-2, True), (1e-2, False))
"""Least noise variance, in units of the score variance, and whether parameters are
tuned: first what is best, then what is safe."""
MOST_NOISE = 100.0
"""Largest standard error, in units of the standard deviation of the scores."""
LEAST_SECONDS = 1e-3
"""Costs below this are taken as this."""
FENCE = 3.0
"""Quartile distances below the lower quartile at which a score is far out."""


class SurrogateError(RunError):
    """No Gaussian process could be fitted to the history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Holds numbers on a standard scale: mean 0, standard deviation 1."""

    values: Float64[np.ndarray, " trials"]
    """Standardised numbers."""
    variances: Float64[np.ndarray, " trials"] | None
    """Known noise variances on the same scale; None where none is known."""
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
    middle = float(numbers.mean())
    size = float(np.abs(numbers - middle).max())
    values = (numbers - middle) / size
    lower, upper = np.quantile(values, [0.25, 0.75])
    if upper > lower:
        values = np.maximum(values, lower - FENCE * (upper - lower))
    centre, deviation = float(values.mean()), float(values.std())
    errors = standard_errors / size / deviation
    known = np.isfinite(errors)
    variances = None
    if known.any():
        usual = float(np.median(errors[known]))
        variances = np.clip(np.where(known, errors, usual), usual / 3, MOST_NOISE) ** 2
    return Scores(
        values=(values - centre) / deviation,
        variances=variances,
        centre=middle + size * centre,
        unit=size * deviation,
    )


@dataclass(frozen=True, slots=True)
class Surrogate:
    """Holds a fitted Gaussian process and speaks numpy."""

    model: SingleTaskGP
    """The model, in evaluation mode, on the standard scale."""
    scores: Scores
    """What it was fitted to."""

    def means(
        self, rows: Float64[np.ndarray, "rows columns"]
    ) -> Float64[np.ndarray, " rows"]:
        """Return the posterior means at encoded Configs, on the original scale."""
        with torch.no_grad():
            means = self.model.posterior(torch.from_numpy(rows)).mean.squeeze(-1)
        scaled = self.scores.centre + self.scores.unit * means.numpy()
        return np.asarray(scaled, dtype=np.float64)


def fit_scores(evidence: Evidence, *, steps: int, seed: int) -> Surrogate:
    """Return a Gaussian process for the score, with the known noise.

    Raises:
        SurrogateError: If the fit fails in every way that `fit` knows.
    """
    means, errors = evidence.scores().T
    return fit(evidence, standardised(means, errors), steps=steps, seed=seed)


def fit_log_cost(evidence: Evidence, *, steps: int, seed: int) -> Surrogate | None:
    """Return a Gaussian process for the logarithm of the seconds of a done trial.

    Returns:
        None where all trials took the same time, so that cost decides nothing.

    Raises:
        SurrogateError: If the fit fails in every way that `fit` knows.
    """
    seconds = [evidence.history[i][1].cost_seconds for i in evidence.indices("done")]
    logs = np.log(np.maximum(np.array(seconds, dtype=np.float64), LEAST_SECONDS))
    if np.ptp(logs) < 1e-6:
        return None
    unknown = np.full(len(logs), np.nan)
    return fit(evidence, standardised(logs, unknown), steps=steps, seed=seed)


def fit(evidence: Evidence, scores: Scores, *, steps: int, seed: int) -> Surrogate:
    """Return a Gaussian process fitted to the done trials by marginal likelihood.

    A fit that fails numerically is tried once more with a higher floor under the
    noise, and then with the parameters left at the modes of their priors. Both are
    logged.

    Args:
        evidence: The trials.
        scores: One number for each done trial; without variances one common noise
            is inferred.
        steps: Most steps of L-BFGS-B.
        seed: For the second start after a failed one.

    Raises:
        SurrogateError: If none of this gives a usable posterior.
    """
    rows = evidence.rows("done")
    for floor, is_tuned in ATTEMPTS:
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model = _model(evidence.encoding.layout, rows, scores, floor)
                if is_tuned:
                    _tune(model, steps)
            surrogate = Surrogate(model.eval(), scores)
            surrogate.means(rows)
        except NUMERICAL_ERRORS as error:
            logger.warning(
                "GP fit on %d trials failed (noise floor %g, tuned: %s): %s",
                len(rows),
                floor,
                is_tuned,
                error,
            )
        else:
            return surrogate
    raise SurrogateError(
        "The covariance of the Gaussian process must be positive definite, got none "
        f"that is on {len(rows)} trials. Report the history to the developers."
    )


def _model(
    layout: Layout,
    rows: Float64[np.ndarray, "trials columns"],
    scores: Scores,
    floor: float,
) -> SingleTaskGP:
    known = scores.variances
    noise = None if known is None else torch.from_numpy(np.maximum(known, floor))
    # The columns are scaled as the kernel wants them; options are plain indices.
    with validate_input_scaling(False):
        return SingleTaskGP(
            torch.from_numpy(rows),
            torch.from_numpy(scores.values).unsqueeze(-1),
            None if noise is None else noise.unsqueeze(-1),
            covar_module=ConditionalKernel(layout),
            outcome_transform=None,
        )


def _tune(model: SingleTaskGP, steps: int) -> None:
    with warnings.catch_warnings():
        # Running out of steps is what the limit is for.
        warnings.simplefilter("ignore", OptimizationWarning)
        fit_gpytorch_mll(
            ExactMarginalLogLikelihood(model.likelihood, model),
            optimizer_kwargs={"options": {"maxiter": steps}},
            max_attempts=2,
        )
