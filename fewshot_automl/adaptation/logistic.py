"""Regularised multinomial logistic regression along a path of strengths."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Float, Int

from fewshot_automl.adaptation.heads import softmax

MAX_ITERATIONS: Final = 200
CHECKED_EVERY: Final = 4
"""Steps between looks at what is solved; a look costs a third of a step."""
TOLERANCE: Final = 3e-3
"""A strength is solved when no logit moves more than this, relative to its largest
weight. A third of it takes three times as long and changes test log loss by less than
draws of the labels do (trec6, subj, clickbait, hwu64, 3 draws, once, by hand)."""


def fit_softmax_path(
    features: Float[np.ndarray, "examples width"],
    labels: Int[np.ndarray, " examples"],
    example_weights: Float[np.ndarray, " examples"],
    classes: int,
    strengths: Sequence[float],
) -> list[tuple[Float[np.ndarray, "width classes"], Float[np.ndarray, " classes"]]]:
    """Return weight and bias of each strength; all are solved at once.

    Minimises mean cross-entropy + `strength / 2 * |weight|^2` of the logits
    ``features @ weight + bias``; classes without examples get a low bias.

    Works in the span of the examples (never larger than examples x examples). There
    the weighted Gram matrix is diagonal, and with it Böhning's bound on the Hessian,
    so that accelerated gradient steps scaled by that bound need no line search and
    their number does not depend on how the features are conditioned.

    Source:
        Böhning, Ann. Inst. Statist. Math. 1992, eq. 3.2 (the bound); O'Donoghue and
        Candès, Found. Comput. Math. 2015 (momentum restarted by the gradient).
    """
    share = example_weights / example_weights.sum()
    center = share @ features
    centred = features - center
    _, singular, rows = np.linalg.svd(
        np.sqrt(share)[:, None] * centred, full_matrices=False
    )
    keep = singular > 1e-7 * max(float(singular.max(initial=0.0)), 1e-12)
    basis = rows[keep].T
    target = np.zeros((len(labels), classes), dtype=np.float32)
    target[np.arange(len(labels)), labels] = 1.0
    weight, bias = _descend(
        (centred @ basis).astype(np.float32),
        target,
        share.astype(np.float32),
        (0.5 * singular[keep] ** 2).astype(np.float32),
        np.asarray(strengths, dtype=np.float32)[:, None, None],
    )
    full = basis @ weight.astype(np.float64)
    return list(zip(full, bias - center @ full, strict=True))


def _descend(
    coordinates: Float[np.ndarray, "examples rank"],
    target: Float[np.ndarray, "examples classes"],
    share: Float[np.ndarray, " examples"],
    curvature: Float[np.ndarray, " rank"],
    strengths: Float[np.ndarray, "strengths 1 1"],
) -> tuple[
    Float[np.ndarray, "strengths rank classes"], Float[np.ndarray, "strengths classes"]
]:
    """Return the solutions; strengths that are solved leave the descent."""
    count, classes = len(strengths), target.shape[1]
    prior = np.log(np.maximum(share @ target, 1e-6)).astype(np.float32)
    solved_weight = np.zeros((count, coordinates.shape[1], classes), dtype=np.float32)
    solved_bias = np.tile(prior, (count, 1))
    weight = ahead = solved_weight.copy()
    bias = ahead_bias = solved_bias.copy()
    places, momentum = np.arange(count), np.ones(count, dtype=np.float32)
    step = 1.0 / (curvature[None, :, None] + strengths)
    weighted = (coordinates * share[:, None]).T.copy()
    for done in range(1, MAX_ITERATIONS + 1):
        residual = coordinates @ ahead
        residual += ahead_bias[:, None, :]
        residual = softmax(residual)
        residual -= target
        gradient = weighted @ residual
        gradient += strengths * ahead
        last, last_bias = weight, bias
        weight = ahead - step * gradient
        bias = ahead_bias - 2.0 * (share @ residual)
        moved = weight - last
        uphill = np.einsum("src,src->s", gradient, moved) > 0
        grown = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        factor = np.where(uphill, np.float32(0), (momentum - 1) / grown)
        momentum = np.where(uphill, np.float32(1), grown)
        ahead = weight + factor[:, None, None] * moved
        ahead_bias = bias + factor[:, None] * (bias - last_bias)
        if done % CHECKED_EVERY and done < MAX_ITERATIONS:
            continue
        change = np.abs(coordinates @ moved).max(axis=(1, 2), initial=0.0)
        size = np.abs(weight).max(axis=(1, 2), initial=1.0)
        left = (change >= TOLERANCE * size) & (done < MAX_ITERATIONS)
        solved_weight[places[~left]] = weight[~left]
        solved_bias[places[~left]] = bias[~left]
        if not left.any():
            break
        if not left.all():
            places, momentum, step = places[left], momentum[left], step[left]
            weight, bias, strengths = weight[left], bias[left], strengths[left]
            ahead, ahead_bias = ahead[left], ahead_bias[left]
    return solved_weight, solved_bias
