"""How sure a score of few examples is: standard errors and intervals.

Which standard error for which objective (`standard_error`):

- `Mean` objectives (accuracy, log loss, Brier): the spread of the examples' values
  over the square root of their number.
- All others: the spread of the pooled score over bootstrap draws of the examples.
- Then, if asked for, the correction for overlapping training parts of Nadeau and
  Bengio, which for K folds multiplies the variance by `1 + K / (K - 1)`. It belongs to
  statements about new data. Without it the error suits comparisons between Configs
  that were scored on the same folds, as a surrogate's noise.
- Scores of right and wrong have a floor, the error that one example more and one
  less would give, since 16 right of 16 does not prove perfection.

Per-fold scores are not used where predictions are at hand: with 3 examples a fold a
macro-F1 of a fold means little.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from jaxtyping import Float, Int

from fewshot_automl.errors import ShapeError
from fewshot_automl.evaluation.resampling import (
    as_repeats,
    bootstrap_weights,
    default_draws,
    example_values,
    is_predicted,
    scorer,
)
from fewshot_automl.tasks import Mean, Metric, metric_named


def standard_error(
    metric: str | Metric,
    labels: Int[np.ndarray, " examples"],
    proba: Float[np.ndarray, "... rows classes"],
    *,
    folds: int | None = None,
    seed: int = 0,
) -> float:
    """Return the standard error of `pooled_score`.

    Args:
        metric: Name of an objective, or an objective.
        labels: Class indices.
        proba: Out-of-fold predictions, `[examples, classes]` or
            `[repeats, examples, classes]`; NaN where a fold was not run.
        folds: Number of folds of one partition, to correct for the overlap of their
            training parts; None for no correction.
        seed: Seed of the bootstrap; not used for `Mean` objectives.

    Raises:
        ShapeError: If labels and predictions do not fit, or fewer than 2 examples
            were predicted.

    Source:
        Nadeau and Bengio, Machine Learning 52, 2003, eq. 11, for disjoint folds.

    >>> proba = np.array([[0.9, 0.1]] * 16)
    >>> round(standard_error("accuracy", np.array([0] * 12 + [1] * 4), proba), 3)
    0.112
    """
    wanted = metric_named(metric)
    stack = as_repeats(proba)
    count = int(is_predicted(stack).any(axis=0).sum())
    if count < 2:
        raise ShapeError(f"Predictions must be of at least 2 examples, got {count}.")
    score_draws = scorer(wanted, labels, [stack])
    if isinstance(wanted.measure, Mean):
        values = example_values(labels, stack, wanted.measure.values)
        error = float(np.nanstd(values, ddof=1)) / math.sqrt(count)
    else:
        rng = np.random.default_rng(seed)
        weights = bootstrap_weights(len(labels), default_draws(wanted, [stack]), rng)
        scores = score_draws(weights)[:, 0]
        error = float(np.std(scores[np.isfinite(scores)])) if scores.size else 0.0
    error = max(error, _least_error(wanted, count))
    return error * math.sqrt(overlap_factor(folds) if folds is not None else 1.0)


def overlap_factor(folds: int) -> float:
    """Return by how much overlapping training parts raise a score's variance.

    Args:
        folds: Number of folds of one partition, at least 2.

    Raises:
        ShapeError: If there are fewer than 2 folds.

    Source:
        Nadeau and Bengio, Machine Learning 52, 2003, eq. 11: `1 / J + n2 / n1` with
        `J` = K disjoint folds and `n2 / n1` = 1 / (K - 1), over `1 / J`.

    >>> overlap_factor(5)
    2.25
    """
    if folds < 2:
        raise ShapeError(f"Number of folds must be at least 2, got {folds}.")
    return 1.0 + folds / (folds - 1)


def standard_error_of_folds(scores: Sequence[float], *, folds: int) -> float:
    """Return the standard error of the mean of fold scores, if that is all there is.

    Args:
        scores: One score a fold, of all repeats; at least 2.
        folds: Number of folds of one partition.

    Raises:
        ShapeError: If there are fewer than 2 scores or folds.

    Source:
        Nadeau and Bengio, Machine Learning 52, 2003, eq. 11.

    >>> round(standard_error_of_folds([0.8, 0.9, 0.7, 0.8, 0.8], folds=5), 4)
    0.0474
    """
    if len(scores) < 2 or folds < 2:
        raise ShapeError(
            f"There must be at least 2 scores and 2 folds, got {len(scores)} and "
            f"{folds}. Run another fold."
        )
    variance = float(np.var(scores, ddof=1))
    return math.sqrt(variance * (1 / len(scores) + 1 / (folds - 1)))


def bootstrap_interval(
    metric: str | Metric,
    labels: Int[np.ndarray, " examples"],
    proba: Float[np.ndarray, "... rows classes"],
    *,
    level: float = 0.95,
    draws: int | None = None,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile interval of one model's oriented score.

    For a model that was fixed beforehand and a test set of fair size. The interval of
    a chosen model is in `correct_for_selection`; that of a share of few examples is
    better taken from `wilson_interval`.

    Args:
        metric: Name of an objective, or an objective.
        labels: Class indices.
        proba: Predictions, `[examples, classes]` or `[repeats, examples, classes]`.
        level: Share of such intervals that should hold the true score.
        draws: Number of bootstrap draws; None for what the objective's cost allows.
        seed: The same seed gives the same interval.

    Raises:
        ShapeError: If labels and predictions do not fit, `level` is not between 0 and
            1, or the score is undefined in every draw.

    >>> proba = np.array([[0.9, 0.1]] * 40)
    >>> low, high = bootstrap_interval("accuracy", np.array([0, 1] * 20), proba)
    >>> 0.3 < low < 0.4 and 0.6 < high < 0.7
    True
    """
    _check_level(level)
    wanted = metric_named(metric)
    count = default_draws(wanted, [proba]) if draws is None else draws
    weights = bootstrap_weights(len(labels), count, np.random.default_rng(seed))
    scores = scorer(metric, labels, [proba])(weights)[:, 0]
    scores = scores[np.isfinite(scores)]
    if scores.size == 0:
        raise ShapeError(
            f"{wanted.name} must be defined in at least one bootstrap draw, "
            f"got none of {count}. Use another metric."
        )
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def wilson_interval(
    share: float, examples: int | float, *, level: float = 0.95
) -> tuple[float, float]:
    """Return the score interval of a share, sound down to a handful of examples.

    Args:
        share: The share observed, in [0, 1].
        examples: Of how many; a fraction where examples are worth less than one.
        level: Share of such intervals that should hold the true share.

    Raises:
        ShapeError: If an argument is out of its range.

    Source:
        Wilson, JASA 22, 1927.

    >>> low, high = wilson_interval(1.0, 16)
    >>> round(low, 3), high
    (0.806, 1.0)
    """
    _check_level(level)
    if not (0 <= share <= 1 and examples > 0):
        raise ShapeError(
            "Share must be in [0, 1] and examples greater than 0, got "
            f"{share} and {examples}."
        )
    z = quantile_of_normal((1 + level) / 2)
    ratio = z * z / examples
    centre = (share + ratio / 2) / (1 + ratio)
    spread = share * (1 - share) / examples + ratio / (4 * examples)
    half = z * math.sqrt(spread) / (1 + ratio)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def quantile_of_normal(probability: float) -> float:
    """Return the standard normal quantile of a probability between 0 and 1.

    >>> round(quantile_of_normal(0.975), 3)
    1.96
    """
    return NormalDist().inv_cdf(probability)


def _least_error(wanted: Metric, examples: int) -> float:
    """Return the error of one success and one failure added to perfect scores."""
    low, high = wanted.limits
    is_smooth = isinstance(wanted.measure, Mean) and wanted.needs == "outputs"
    if is_smooth or not math.isfinite(high - low):
        return 0.0
    return (high - low) * math.sqrt((examples + 1) / examples) / (examples + 2)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ShapeError(f"Level must be between 0 and 1, got {level}. Use 0.95.")
