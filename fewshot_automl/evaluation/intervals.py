"""How sure a score of few examples is, and what the best of many scores is worth.

The best of C scores is too good, the more so the more were tried on the fewer
examples. So the picking is repeated on bootstrap draws of the examples, and each pick
scored on the examples the draw left out (BBC-CV, Tsamardinos et al.; see
`committee.choosing_gaps`). Nothing is trained: out-of-fold predictions are enough.

What is told is for the accuracy on new data of the model that is deployed, that is,
the pick trained on *all* examples. Two errors with opposite signs lie between it and
the raw score: picking made the raw score too good, and each fold trained on fewer
examples than the deployed model, which makes it too bad. The corrected score lacks the
first, and `expected_score`, the best guess, both. The interval reaches from the lower
end around the corrected score to the upper end around the raw score, where the error
falls with the square root of the examples trained on, the fastest rate that is usual.
Both ends are Wilson's, with the number of examples divided by `VARIANCE_INFLATION`,
since out-of-fold predictions of models that share training data are worth less than
independent ones. Percentiles of the out-of-bag scores, of 37 % of the examples, are
not used: they have no width at all on perfect ones.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from jaxtyping import Bool, Float

from fewshot_automl.errors import ShapeError
from fewshot_automl.evaluation.resampling import (
    AnyStack,
    Stacks,
    as_repeats,
    bootstrap_weights,
    default_draws,
    example_values,
    is_predicted,
    pooled_score,
    scorer,
)
from fewshot_automl.tasks import Mean, Metric

LEVEL: Final = 0.95
"""Share of intervals that should hold the true value."""
REACH: Final = NormalDist().inv_cdf((1 + LEVEL) / 2)
"""Standard errors from the middle of an interval to its ends."""
VARIANCE_INFLATION: Final = 1.5
"""Variance of a cross-validated score over that of as many independent predictions
(decision 0029 has its coverage, `benchmarks/honesty.py` repeats some).
"""

LEARNING_RATE: Final = 0.5
"""Power of the examples trained on with which errors fall at most."""


def standard_error(
    metric: Metric, targets: np.ndarray, outputs: AnyStack, *, seed: int = 0
) -> float:
    """Return the standard error of `pooled_score` between models of the same folds.

    Of a mean over examples it is the spread of their values over the square root of
    their number, of all other metrics the spread over bootstrap draws. Per-fold scores
    are not used: with 3 examples a fold a macro-F1 of a fold means little. Scores of
    decisions have a floor, the error that one example more and one less would give,
    since 16 right of 16 does not prove perfection.

    Raises:
        ShapeError: If targets and outputs do not fit, or fewer than 2 examples were
            predicted.
    """
    stack = as_repeats(outputs)
    count = int(is_predicted(stack).any(axis=0).sum())
    if count < 2:
        raise ShapeError(f"Predictions must be of at least 2 examples, got {count}.")
    score_draws = scorer(metric, targets, [stack])
    low, high = metric.limits
    has_floor = math.isfinite(high - low)
    if isinstance(metric.measure, Mean):
        values = example_values(targets, stack, metric.measure.values)
        error = float(np.nanstd(values, ddof=1)) / math.sqrt(count)
        has_floor = has_floor and metric.needs == "decisions"
    else:
        rng = np.random.default_rng(seed)
        weights = bootstrap_weights(len(targets), default_draws(metric, [stack]), rng)
        scores = score_draws(weights)[:, 0]
        error = float(np.std(scores[np.isfinite(scores)])) if scores.size else 0.0
    if not has_floor:
        return error
    return max(error, (high - low) * math.sqrt((count + 1) / count) / (count + 2))


def wilson_interval(share: float, examples: int | float) -> tuple[float, float]:
    """Return the interval of a share of so many examples, sound down to a handful.

    Source:
        Wilson, JASA 22, 1927.

    >>> low, high = wilson_interval(1.0, 16)
    >>> round(low, 3), high
    (0.806, 1.0)
    """
    ratio = REACH * REACH / examples
    centre = (share + ratio / 2) / (1 + ratio)
    spread = share * (1 - share) / examples + ratio / (4 * examples)
    half = REACH * math.sqrt(spread) / (1 + ratio)
    return max(centre - half, 0.0), min(centre + half, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """Says how good the chosen model is; all scores are oriented."""

    expected: float
    """Best guess of the deployed model's score."""
    score: float
    """Score of models trained on as few examples as in a fold, without luck."""
    low: float
    high: float
    """Ends of the interval for the deployed model."""
    raw_score: float
    """Cross-validated score of the pick, too good on average."""


def correct_for_selection(
    targets: np.ndarray,
    outputs: AnyStack,
    metric: Metric,
    gaps: Float[np.ndarray, " draws"],
    *,
    trained_share: float = 1.0,
    constant: float = math.nan,
    seed: int = 0,
) -> Corrected:
    """Return the score of a model that was picked, corrected for the picking.

    Outputs are out of fold; a row of NaN is an example that was not predicted. `gaps`
    are how much better the model is out of bag than the pick of each bootstrap draw.
    `trained_share` of the examples is what it was trained on; the deployed model gets
    all. `constant` is the oriented score of the best constant answer.

    Raises:
        ShapeError: If targets and outputs do not fit, or the model has no score.

    Source:
        Tsamardinos, Greasidou and Borboudakis, Machine Learning 107, 2018, algorithm
        5. Ours: the difference between the pick's raw and mean out-of-bag score is
        added (a control variate: 0 on average for means over examples, and for other
        metrics the bias of scoring on fewer examples), so that one model alone keeps
        its raw score; the corrected score is never above the raw one; the interval.
    """
    raw = pooled_score(metric, targets, outputs)
    if not math.isfinite(raw):
        raise ShapeError(
            f"{metric.name} must be defined for the model that was chosen, got {raw}. "
            "Use another metric, or label examples of another class."
        )
    gaps = gaps[np.isfinite(gaps)]
    bias = float(gaps.mean()) if gaps.size else 0.0
    corrected = min(max(raw - bias, metric.limits[0]), raw)
    low, high = _interval(metric, targets, outputs, corrected, raw, seed)
    return Corrected(
        expected=expected_score(metric, corrected, trained_share, constant),
        score=corrected,
        low=low,
        high=expected_score(metric, high, trained_share),
        raw_score=raw,
    )


def expected_score(
    metric: Metric, score: float, trained_share: float, constant: float = math.nan
) -> float:
    """Return the best guess of the score of a model that is trained on all examples.

    `score` is an oriented one, of models trained on a share of them, freed from luck.
    What it lacks to the best possible score falls with the examples trained on to the
    power of `LEARNING_RATE`, times how far it has come there from the score of a
    constant answer: what has learnt nothing from some examples expects nothing of more.
    Where that score is undefined, it counts as if all the way had been come.
    """
    best = metric.limits[1]
    if not math.isfinite(best):
        return score
    skill = 1.0
    if constant < best:
        skill = min(max((score - constant) / (best - constant), 0.0), 1.0)
    return best - (best - score) * math.pow(trained_share, LEARNING_RATE * skill)


def indistinguishable(
    targets: np.ndarray,
    outputs: Stacks,
    metric: Metric,
    *,
    winner: int,
    seed: int = 0,
) -> Bool[np.ndarray, " models"]:
    """Return which models cannot be told apart from the pick (which is one of them).

    A model can be told apart if the pick scores higher in more than `LEVEL` of the
    bootstrap draws of the examples that both predicted. Models are compared one by
    one; among many, some fall out by chance.
    """
    rng = np.random.default_rng(seed)
    weights = bootstrap_weights(len(targets), default_draws(metric, outputs), rng)
    rows = np.array([is_predicted(as_repeats(each)).any(axis=0) for each in outputs])
    rows &= rows[winner]
    same = np.empty(len(outputs), dtype=np.bool_)
    for common in np.unique(rows, axis=0):
        alike = np.flatnonzero((rows == common).all(axis=1))
        compared = [outputs[model] for model in (winner, *alike)]
        scores = scorer(metric, targets, compared)(weights * common)
        lead = scores[:, :1] - scores[:, 1:]
        is_known = np.isfinite(lead)
        ahead = (is_known & (lead > 1e-12)).sum(axis=0)
        same[alike] = ahead <= LEVEL * np.maximum(is_known.sum(axis=0), 1)
    return same


def _interval(
    metric: Metric,
    targets: np.ndarray,
    outputs: AnyStack,
    corrected: float,
    raw: float,
    seed: int,
) -> tuple[float, float]:
    """Return both ends: below the corrected score and above the raw one.

    Scores between two limits become shares, and the examples as many as would give a
    share the standard error that was found; of decisions no more than there are, for
    repeats do not add examples.
    """
    error = standard_error(metric, targets, outputs, seed=seed)
    low, high = metric.limits
    if not math.isfinite(high - low):
        reach = REACH * error * math.sqrt(VARIANCE_INFLATION)
        return max(corrected - reach, low), min(raw + reach, high)
    span = high - low
    below, above = ((value - low) / span for value in (corrected, raw))
    count = int(is_predicted(as_repeats(outputs)).any(axis=0).sum())
    worth = float(count)
    if error > 0 and 0 < above < 1:
        worth = max(above * (1 - above) * (span / error) ** 2, 1.0)
    examples = min(worth, count) if metric.needs == "decisions" else worth
    examples /= VARIANCE_INFLATION
    return (
        low + span * wilson_interval(below, examples)[0],
        low + span * wilson_interval(above, examples)[1],
    )
