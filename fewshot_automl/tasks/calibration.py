"""How far probabilities can be believed, and the one number that mends most of it."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Float64, Int

from fewshot_automl.errors import ShapeError

TEMPERATURES: Final = (0.05, 20.0)
"""Range in which a temperature is looked for."""
TEMPERATURE_PRIOR: Final = 1.0
"""Standard deviation of the log temperature around 0 that is assumed beforehand."""
LEAST: Final = 1e-6
"""Probability below which one counts as this in `refinement_loss`: a model that rules
out what is true has gone wrong, and by how much says nothing of the other examples."""
_HALVINGS: Final = 40
_TINY: Final = float(np.finfo(np.float64).tiny)

Proba = Float[np.ndarray, "rows classes"]
Labels = Int[np.ndarray, " examples"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """Compares confidence and accuracy of the examples of one range of confidence."""

    low: float
    """Least confidence in the bin."""
    high: float
    """Greatest confidence in the bin."""
    confidence: float
    """Mean probability of the predicted class."""
    accuracy: float
    """Share of right predictions."""
    examples: int
    """Number of examples in the bin."""


def reliability(
    proba: Proba, labels: Labels, *, bins: int = 10
) -> tuple[ReliabilityBin, ...]:
    """Return confidence beside accuracy over equal-mass bins, rising.

    Equal confidences always share a bin, so bins may differ in mass, or be fewer.

    Args:
        proba: Class probabilities; each row sums to 1.
        labels: Class indices.
        bins: Number of bins; more than `examples / 5` makes the estimate noise.

    Raises:
        ShapeError: If `proba` and `labels` disagree on the number of examples.

    >>> table = reliability(np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([0, 0]))
    >>> [(row.confidence, row.accuracy) for row in table]
    [(0.6, 0.0), (0.9, 1.0)]
    """
    _check(proba, labels)
    confidence = proba.max(axis=1).astype(np.float64)
    right = proba.argmax(axis=1) == labels
    starts = np.arange(bins) * len(labels) // bins
    edges = np.unique(np.sort(confidence)[starts])
    place = np.searchsorted(edges, confidence, side="right")
    return tuple(
        ReliabilityBin(
            low=float(confidence[group].min()),
            high=float(confidence[group].max()),
            confidence=float(confidence[group].mean()),
            accuracy=float(right[group].mean()),
            examples=int(group.sum()),
        )
        for group in (place == number for number in np.unique(place))
    )


def expected_calibration_error(
    proba: Proba, labels: Labels, *, bins: int = 10
) -> float:
    """Return the gap between confidence and accuracy over equal-mass bins, in [0, 1].

    Source:
        Guo et al., ICML 2017, eq. 3, with equal-mass instead of equal-width bins.

    >>> proba = np.array([[0.75, 0.25]] * 4)
    >>> expected_calibration_error(proba, np.array([0, 0, 0, 1]))
    0.0
    """
    gaps = [
        row.examples * abs(row.confidence - row.accuracy)
        for row in reliability(proba, labels, bins=bins)
    ]
    return sum(gaps) / len(labels)


def fit_temperature(proba: Proba, labels: Labels) -> float:
    """Return the temperature that makes out-of-fold probabilities most likely.

    A log-normal prior around 1 (`TEMPERATURE_PRIOR`) keeps it finite where few
    examples are all predicted right, and loses its say as examples come in.

    Returns:
        A number in `TEMPERATURES`; above 1 the probabilities were overconfident.

    Raises:
        ShapeError: If `proba` and `labels` disagree on the number of examples.

    Source:
        Guo et al., ICML 2017, section 4.2; the prior is ours.

    >>> overconfident = np.array([[0.99, 0.01]] * 10)
    >>> fit_temperature(overconfident, np.array([0] * 7 + [1] * 3)) > 2
    True
    """
    from scipy.optimize import minimize_scalar

    _check(proba, labels)
    logits = np.log(np.maximum(proba.astype(np.float64), _TINY))
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        scaled = _log_softmax(logits / np.exp(log_temperature))
        prior = 0.5 * (log_temperature / TEMPERATURE_PRIOR) ** 2
        return float(prior - scaled[rows, labels].sum())

    found = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded")
    return float(np.exp(found.x))


def apply_temperature(
    proba: Float[np.ndarray, "*rows classes"], temperature: float
) -> Float64[np.ndarray, "*rows classes"]:
    """Return the probabilities flattened (above 1) or sharpened (below 1).

    Raises:
        ShapeError: If `temperature` is not greater than 0.

    >>> apply_temperature(np.array([[0.9, 0.1]]), 2.0).round(2)
    array([[0.75, 0.25]])
    """
    if not temperature > 0:
        raise ShapeError(f"Temperature must be greater than 0, got {temperature}.")
    logits = np.log(np.maximum(proba.astype(np.float64), _TINY))
    return np.asarray(np.exp(_log_softmax(logits / temperature)))


def refinement_loss(proba: Proba, labels: Labels) -> float:
    """Return the log loss that is left when confidence is put right, in nats.

    That is the mean log loss at the temperature, of those in `TEMPERATURES`, at which
    it is least: it says how well predictions tell the classes apart, however sure they
    are of themselves. On few examples it depends less on luck than the share of right
    answers does.

    Raises:
        ShapeError: If `proba` and `labels` disagree on the number of examples.

    Source:
        Berta, Holzmueller, Jordan and Bach, arXiv:2501.19195, section 4.

    >>> labels = np.array([0, 0, 0, 1, 1])
    >>> shy = np.array([[0.6, 0.4], [0.6, 0.4], [0.4, 0.6], [0.4, 0.6], [0.4, 0.6]])
    >>> bold = apply_temperature(shy, 0.1)
    >>> round(refinement_loss(shy, labels), 3), round(refinement_loss(bold, labels), 3)
    (0.5, 0.5)
    """
    _check(proba, labels)
    logits = np.log(np.maximum(proba.astype(np.float64), LEAST))
    own = logits[np.arange(len(labels)), labels]
    # The loss is convex in the inverse temperature, so the sign of its slope decides.
    high, low = 1 / np.array(TEMPERATURES)
    for _ in range(_HALVINGS):
        inverse = float(np.sqrt(low * high))
        scaled = _log_softmax(inverse * logits)
        slope = float(((np.exp(scaled) * logits).sum(axis=1) - own).sum())
        low, high = (low, inverse) if slope > 0 else (inverse, high)
    return max(float(-scaled[np.arange(len(labels)), labels].mean()), 0.0)


def _check(proba: np.ndarray, labels: np.ndarray) -> None:
    if len(proba) != len(labels) or len(labels) == 0:
        raise ShapeError(
            "Probabilities must have one row for each label, at least 1, "
            f"got {len(proba)} and {len(labels)}."
        )


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
