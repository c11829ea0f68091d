"""How sure a score of few examples is: standard errors and intervals."""

import math
from statistics import NormalDist

import numpy as np
from jaxtyping import Float

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
    targets: np.ndarray,
    outputs: Float[np.ndarray, "... rows width"],
    *,
    seed: int = 0,
) -> float:
    """Return the standard error of `pooled_score` between models of the same folds.

    Of a mean over examples it is the spread of their values over the square root of
    their number, of all other metrics the spread over bootstrap draws. Per-fold scores
    are not used: with 3 examples a fold a macro-F1 of a fold means little. Scores of
    decisions have a floor, the error that one example more and one less would give,
    since 16 right of 16 does not prove perfection.

    Args:
        metric: A metric, or the name of one for classes.
        targets: One for each example.
        outputs: Out of fold; NaN where a fold was not run.
        seed: Seed of the bootstrap; not used for means.

    Raises:
        ShapeError: If targets and outputs do not fit, or fewer than 2 examples were
            predicted.

    >>> outputs = np.array([[0.9, 0.1]] * 16)
    >>> round(standard_error("accuracy", np.array([0] * 12 + [1] * 4), outputs), 3)
    0.112
    """
    wanted = metric_named(metric)
    stack = as_repeats(outputs)
    count = int(is_predicted(stack).any(axis=0).sum())
    if count < 2:
        raise ShapeError(f"Predictions must be of at least 2 examples, got {count}.")
    score_draws = scorer(wanted, targets, [stack])
    if isinstance(wanted.measure, Mean):
        values = example_values(targets, stack, wanted.measure.values)
        error = float(np.nanstd(values, ddof=1)) / math.sqrt(count)
    else:
        rng = np.random.default_rng(seed)
        weights = bootstrap_weights(len(targets), default_draws(wanted, [stack]), rng)
        scores = score_draws(weights)[:, 0]
        error = float(np.std(scores[np.isfinite(scores)])) if scores.size else 0.0
    return max(error, _least_error(wanted, count))


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
    if not (0 <= share <= 1 and examples > 0 and 0 < level < 1):
        raise ShapeError(
            "Share must be in [0, 1], examples greater than 0 and level between 0 and "
            f"1, got {share}, {examples} and {level}."
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
