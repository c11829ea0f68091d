"""Regularised multinomial logistic regression along a path of strengths."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Int

from fewshot_automl.adaptation.heads import softmax

MAX_ITERATIONS: Final = 200
TOLERANCE: Final = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftmaxPath:
    """Solutions for a list of strengths: logits are ``features @ weight + bias``."""

    weight: Float[np.ndarray, "strengths width classes"]
    bias: Float[np.ndarray, "strengths classes"]


def fit_softmax_path(
    features: Float[np.ndarray, "examples width"],
    labels: Int[np.ndarray, " examples"],
    example_weights: Float[np.ndarray, " examples"],
    classes: int,
    strengths: tuple[float, ...],
) -> SoftmaxPath:
    """Minimise mean cross-entropy + strength / 2 * |weight|^2, all strengths at once.

    Works in the span of the examples (never larger than examples x examples). There
    the weighted Gram matrix is diagonal, and with it Böhning's bound on the Hessian,
    so that accelerated gradient steps scaled by that bound need no line search and
    their number does not depend on how the features are conditioned.

    Args:
        features: One row an example; about unit length makes strengths comparable.
        labels: Class indices.
        example_weights: Weight of each example, not all 0.
        classes: Number of classes; those without examples get a low bias.
        strengths: Of the penalty; the bias is not penalised.

    Source:
        Böhning, Ann. Inst. Statist. Math. 1992, eq. 3.2 (the bound); O'Donoghue and
        Candès, Found. Comput. Math. 2015 (momentum restarted by the gradient).
    """
    share = example_weights / example_weights.sum()
    center = share @ features
    basis, coordinates, curvature = _span(features - center, share)
    target = np.zeros((len(labels), classes), dtype=np.float32)
    target[np.arange(len(labels)), labels] = 1.0
    weight, bias = _descend(
        coordinates.astype(np.float32),
        target,
        share.astype(np.float32),
        (0.5 * curvature).astype(np.float32),
        np.asarray(strengths, dtype=np.float32)[:, None, None],
    )
    full = basis @ weight.astype(np.float64)
    return SoftmaxPath(weight=full, bias=bias - center @ full)


def _span(
    centred: Float[np.ndarray, "examples width"], share: Float[np.ndarray, " examples"]
) -> tuple[
    Float[np.ndarray, "width rank"],
    Float[np.ndarray, "examples rank"],
    Float[np.ndarray, " rank"],
]:
    """Return a basis in which the weighted Gram matrix is diagonal."""
    _, singular, rows = np.linalg.svd(
        np.sqrt(share)[:, None] * centred, full_matrices=False
    )
    keep = singular > 1e-7 * max(float(singular.max(initial=0.0)), 1e-12)
    basis = rows[keep].T
    return basis, centred @ basis, singular[keep] ** 2


def _descend(
    coordinates: Float[np.ndarray, "examples rank"],
    target: Float[np.ndarray, "examples classes"],
    share: Float[np.ndarray, " examples"],
    curvature: Float[np.ndarray, " rank"],
    strengths: Float[np.ndarray, "strengths 1 1"],
) -> tuple[
    Float[np.ndarray, "strengths rank classes"], Float[np.ndarray, "strengths classes"]
]:
    count, classes = len(strengths), target.shape[1]
    prior = np.maximum(share @ target, 1e-6)
    weight = np.zeros((count, coordinates.shape[1], classes), dtype=np.float32)
    bias = np.tile(np.log(prior), (count, 1)).astype(np.float32)
    step = 1.0 / (curvature[None, :, None] + strengths)
    ahead_weight, ahead_bias = weight, bias
    momentum = np.ones((count, 1, 1), dtype=np.float32)
    for _ in range(MAX_ITERATIONS):
        residual = softmax(coordinates @ ahead_weight + ahead_bias[:, None, :])
        residual = (residual - target) * share[:, None]
        gradient = coordinates.T @ residual + strengths * ahead_weight
        new_weight = ahead_weight - step * gradient
        new_bias = ahead_bias - 2.0 * residual.sum(axis=1)
        moved = new_weight - weight
        uphill = (gradient * moved).sum(axis=(1, 2), keepdims=True) > 0
        grown = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        factor = np.where(uphill, 0.0, (momentum - 1) / grown).astype(np.float32)
        momentum = np.where(uphill, 1.0, grown).astype(np.float32)
        ahead_weight = new_weight + factor * moved
        ahead_bias = new_bias + factor[:, :, 0] * (new_bias - bias)
        change = float(np.abs(coordinates @ moved).max(initial=0.0))
        weight, bias = new_weight, new_bias
        if change < TOLERANCE * max(1.0, float(np.abs(weight).max(initial=0.0))):
            break
    return weight, bias
