"""Weights for averaging models, found on predictions they made out of fold."""

import numpy as np
from jaxtyping import Float, Float64, Int

from fewshot_automl.errors import ShapeError
from fewshot_automl.evaluation.resampling import (
    Stacks,
    as_repeats,
    is_predicted,
    scorer,
)
from fewshot_automl.tasks import Metric


def greedy_ensemble(
    labels: Int[np.ndarray, " examples"],
    probas: Stacks,
    metric: str | Metric,
    *,
    rounds: int = 25,
) -> Float64[np.ndarray, " models"]:
    """Return the weights of a greedily grown average of models.

    Starts with the best model and adds, with replacement, the one that helps most.
    Equal scores are told apart by log loss, which matters on few examples, where
    accuracies come in coarse steps. Of all rounds the best is kept, the earliest of
    equals, so a single model stays alone where nothing helps.

    Args:
        labels: Class indices.
        probas: Out-of-fold predictions of each model for every example; repeats are
            averaged.
        metric: Name of an objective, or an objective.
        rounds: Greatest number of models in the average, counted with multiplicity.

    Returns:
        One weight a model, 0 or greater, with sum 1.

    Raises:
        ShapeError: If labels and predictions do not fit, an example was not
            predicted, or there is no model.

    Source:
        Caruana, Niculescu-Mizil, Crew and Ksikes, ICML 2004.

    >>> labels = np.array([0, 0, 1, 1])
    >>> good, bad = np.eye(2)[labels], np.eye(2)[1 - labels]
    >>> greedy_ensemble(labels, [bad, good], "accuracy")
    array([0., 1.])
    """
    if not probas or rounds < 1:
        raise ShapeError(
            "There must be at least one model and one round, "
            f"got {len(probas)} and {rounds}."
        )
    stack = np.stack([mean_over_repeats(proba) for proba in probas])
    counts = np.zeros(len(stack))
    total = np.zeros_like(stack[0])
    best: tuple[float, float] = (-np.inf, -np.inf)
    weights = counts
    for size in range(1, rounds + 1):
        scores = _scores(labels, (total + stack) / size, metric)
        added = max(range(len(stack)), key=scores.__getitem__)
        counts[added] += 1
        total += stack[added]
        if scores[added] > best:
            best, weights = scores[added], counts / size
    return weights


def blend(
    probas: Stacks, weights: Float[np.ndarray, " models"]
) -> Float64[np.ndarray, "examples classes"]:
    """Return the weighted average of the models' probabilities.

    Args:
        probas: Stacks of each model; those of weight 0 are not looked at.
        weights: One weight a model, as `greedy_ensemble` returns them.

    Raises:
        ShapeError: If there is not one weight for each model.

    >>> blend([np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])], np.array([0.75, 0.25]))
    array([[0.75, 0.25]])
    """
    if len(probas) != len(weights) or not weights.any():
        raise ShapeError(
            f"Weights must be one for each of the {len(probas)} models and not all 0, "
            f"got {weights.tolist()}."
        )
    parts = [
        weight * mean_over_repeats(proba)
        for proba, weight in zip(probas, weights, strict=True)
        if weight
    ]
    return np.asarray(np.sum(parts, axis=0))


def mean_over_repeats(
    proba: Float[np.ndarray, "... examples classes"],
) -> Float64[np.ndarray, "examples classes"]:
    """Return each example's probabilities, averaged over the repeats that have it.

    Raises:
        ShapeError: If an example has no prediction in any repeat.

    >>> mean_over_repeats(np.array([[[1.0, 0.0]], [[0.5, 0.5]]]))
    array([[0.75, 0.25]])
    """
    stack = as_repeats(proba).astype(np.float64)
    held = is_predicted(stack).sum(axis=0)
    if not held.all():
        raise ShapeError(
            f"Every example must be predicted, got none for {(held == 0).sum()} of "
            f"{len(held)}. Run the missing folds, or leave this model out."
        )
    return np.asarray(np.nansum(stack, axis=0) / held[:, None])


def _scores(
    labels: Int[np.ndarray, " examples"],
    stack: Float64[np.ndarray, "models rows classes"],
    metric: str | Metric,
) -> list[tuple[float, float]]:
    """Return each model's score and, to tell equals apart, its negated log loss."""
    once = np.ones((1, len(labels)))
    main, spare = (
        np.nan_to_num(scorer(name, labels, list(stack))(once)[0], nan=-np.inf)
        for name in (metric, "log_loss")
    )
    rounded = np.round(main, 12)
    return list(zip(rounded.tolist(), spare.tolist(), strict=True))
