"""Scores of how well frozen features carry a task, without training anything on them.

They rank backbones in milliseconds. They are not honest estimates of accuracy: each
looks at all labels at once, and only its order among backbones means something.
"""

import math
from typing import Final

import numpy as np
from jaxtyping import Float, Float64, Int

from fewshot_automl.errors import ShapeError

MOST_STEPS: Final = 100
"""Of LogME's fixed point; few-shot features take 5 to 40."""
TOLERANCE: Final = 1e-4
"""Relative change of the ratio of precisions at which the fixed point is reached."""
RATIO_ENDS: Final = (1e-4, 1e4)
"""Bounds of that ratio, in mean eigenvalues: an evidence may have no maximum."""

Features = Float[np.ndarray, "examples width"]
Labels = Int[np.ndarray, " examples"]


def log_me(features: Features, labels: Labels) -> float:
    """Return the log evidence of the labels under linear models, for each example.

    Each class against the rest is a Bayesian linear regression on its indicator. Prior
    and noise precision are those that maximise the evidence; the classes are averaged.
    With about as many features as examples the evidence may have a second maximum at
    almost no noise; the fixed point starts at as much noise as signal and misses it.
    The intercept has a flat prior: features and indicators are centred, and what counts
    is the evidence of their `examples - 1` contrasts.

    Args:
        features: One row an example; a factor or an offset of all changes nothing.
        labels: Class indices, of two classes or more.

    Returns:
        Nats for each contrast; greater is better. Comparable between features of the
        same labels only.

    Raises:
        ShapeError: If the arguments disagree in length, hold one class or no number.

    Source:
        You et al., ICML 2021, alg. 1, as a fixed point of one ratio (You et al.,
        JMLR 2022, sec. 4.3).

    >>> features = np.array([[0.0], [0.2], [0.8], [1.0]])
    >>> apart, mixed = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    >>> log_me(features, apart) > log_me(features, mixed)
    True
    """
    values, vectors = _spectrum(features, labels)
    squared = (vectors.T @ _indicators(labels)) ** 2
    floor = max(float(values.mean()), np.finfo(np.float64).tiny)
    contrasts = len(labels) - 1
    found = [_evidence(values / floor, column, contrasts) for column in squared.T]
    return float(np.mean(found))


def _evidence(
    values: Float64[np.ndarray, " values"],
    squared: Float64[np.ndarray, " values"],
    contrasts: int,
) -> float:
    """Return the largest log evidence of one target, for each contrast.

    Args:
        values: Eigenvalues of the Gram matrix of the features, of mean 1.
        squared: The target's squared coordinates along the eigenvectors.
        contrasts: Independent numbers in the target.
    """
    tiny = np.finfo(np.float64).tiny
    ratio = 1.0  # prior precision / noise precision
    for _ in range(MOST_STEPS):
        effective, length, residual = _fit(values, squared, ratio)
        prior = effective / max(length, tiny)
        noise = max(contrasts - effective, tiny) / max(residual, tiny)
        new = min(max(prior / noise, RATIO_ENDS[0]), RATIO_ENDS[1])
        is_reached = abs(new - ratio) <= TOLERANCE * ratio
        ratio = new
        if is_reached:
            break
    _, length, residual = _fit(values, squared, ratio)
    noise = contrasts / max(residual + ratio * length, tiny)  # the best at this ratio
    fit = math.log(noise) - 1 - math.log(2 * math.pi)
    return float(fit - np.log1p(values / ratio).sum() / contrasts) / 2


def _fit(
    values: Float64[np.ndarray, " values"],
    squared: Float64[np.ndarray, " values"],
    ratio: float,
) -> tuple[float, float, float]:
    """Return effective parameters, squared length of the weights, squared residual."""
    share = values / (values + ratio)
    length = (share * squared / (values + ratio)).sum()
    residual = ((1 - share) ** 2 * squared).sum()
    return float(share.sum()), float(length), float(residual)


def h_score(features: Features, labels: Labels) -> float:
    """Return the spread of class means, in units of the features' own spread.

    It is the trace of the inverse covariance of the features times the covariance of
    their class means. With fewer examples than features the covariance must be shrunk
    towards a sphere; Ledoit and Wolf's share is taken.

    Args:
        features: One row an example; a factor, an offset or a rotation of all changes
            nothing.
        labels: Class indices, of two classes or more.

    Returns:
        From 0 to the number of classes less 1; greater is better.

    Raises:
        ShapeError: If the arguments disagree in length, hold one class or no number.

    Source:
        Bao et al., ICIP 2019, def. 2; with shrinkage: Ibrahim et al., arXiv:2110.06893;
        Ledoit and Wolf, J. Multivariate Analysis 2004, sec. 3.

    >>> features = np.array([[0.0], [0.2], [0.8], [1.0]])
    >>> apart, mixed = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    >>> h_score(features, apart) > h_score(features, mixed)
    True
    """
    values, vectors = _spectrum(features, labels)
    count, width = features.shape
    variances = values / count
    sphere = float(variances.sum()) / width
    if sphere == 0:
        return 0.0
    shrinkage = _shrinkage(features, values)
    shrunk = (1 - shrinkage) * variances + shrinkage * sphere
    between = np.zeros(len(values))
    for label in np.unique(labels):
        is_one = labels == label
        between += is_one.mean() * vectors[is_one].mean(axis=0) ** 2 * values
    kept = values > 0
    return float((1 - shrinkage) * (between[kept] / shrunk[kept]).sum())


def _shrinkage(features: Features, values: Float64[np.ndarray, " values"]) -> float:
    """Return Ledoit and Wolf's share of the sphere, from the Gram matrix's spectrum."""
    count, width = features.shape
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    squared = float((values**2).sum()) / count**2
    trace = float(values.sum()) / count
    distance = squared - trace**2 / width
    fourth = float(((centred**2).sum(axis=1) ** 2).sum())
    noise = (fourth / count - squared) / count
    if distance <= 1e-12 * squared:  # it is a sphere already
        return 0.0
    return float(min(noise, distance) / distance)


def knn_score(features: Features, labels: Labels, k: int = 3) -> float:
    """Return the share of examples that their nearest neighbours classify rightly.

    Each example is left out in turn. Neighbours by cosine of the centred features vote,
    weighted by how much nearer they are than the first that may not vote; so nearer
    neighbours count more, and votes do not tie.

    Args:
        features: One row an example; a factor or an offset of all changes nothing.
        labels: Class indices, of two classes or more.
        k: Neighbours that vote; never more than the median class has besides the
            example itself.

    Returns:
        A fraction in [0, 1]; greater is better.

    Raises:
        ShapeError: If the arguments disagree in length, hold one class or no number,
            or `k` is less than 1.

    Source:
        Dudani, IEEE Trans. SMC 1976, eq. 1 (weights of neighbours).

    >>> knn_score(np.array([[0.0], [0.2], [0.8], [1.0]]), np.array([0, 0, 1, 1]), k=1)
    1.0
    """
    if k < 1:
        raise ShapeError(f"k must be 1 or more, got {k}. Use 3.")
    _check(features, labels)
    classes, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    votes = int(max(min(k, np.median(counts) - 1, len(labels) - 2), 1))
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = centred / np.maximum(length, np.finfo(np.float64).tiny)
    similar = unit @ unit.T
    np.fill_diagonal(similar, -np.inf)
    order = np.argsort(-similar, axis=1, kind="stable")[:, : votes + 1]
    near = np.take_along_axis(similar, order, axis=1)
    tally = np.zeros((len(labels), len(classes)))
    for at in range(votes):
        weight = near[:, at] - near[:, -1] if len(labels) > 2 else 1.0
        tally[np.arange(len(labels)), index[order[:, at]]] += weight + 1e-9
    return float((tally.argmax(axis=1) == index).mean())


def _spectrum(
    features: Features, labels: Labels
) -> tuple[Float64[np.ndarray, " values"], Float64[np.ndarray, "examples values"]]:
    """Return eigenvalues and vectors of the Gram matrix of the centred features.

    There are at most as many as examples, however wide the features are. What is only
    rounding is 0.
    """
    _check(features, labels)
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    least = len(labels) * np.finfo(np.float64).eps * max(float(values[-1]), 0.0)
    return np.where(values > least, values, 0.0), vectors


def _indicators(labels: Labels) -> Float64[np.ndarray, "examples classes"]:
    """Return for each class a centred column that is high where it is the label."""
    table = (labels[:, None] == np.unique(labels)).astype(np.float64)
    return np.asarray(table - table.mean(axis=0))


def _check(features: Features, labels: Labels) -> None:
    if len(features) != len(labels):
        raise ShapeError(
            f"Features and labels must have one row an example, got {len(features)} "
            f"and {len(labels)}."
        )
    classes = len(np.unique(labels))
    if classes < 2 or not features.shape[1]:
        raise ShapeError(
            f"Features must be of two classes or more and not empty, got {classes} "
            f"classes and width {features.shape[1]}."
        )
    if not np.isfinite(features).all():
        raise ShapeError("Features must be finite, got NaN or infinite numbers.")
