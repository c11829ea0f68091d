"""How far probabilities can be believed, and the one number that mends most of it."""

from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int

TEMPERATURES: Final = (0.05, 20.0)
"""Range in which a temperature is looked for."""
SOFTER, SHARPER = 0.25, 0.1
"""Mean size of a log temperature above 0, and of one below, that is assumed beforehand
(decision 0029 has the figures)."""
LEAST: Final = 1e-6
"""Probability below which one counts as this: a model that rules out what is true has
gone wrong, and by how much says nothing of the other examples."""
_HALVINGS: Final = 40

Proba = Float[np.ndarray, "rows classes"]
Labels = Int[np.ndarray, " rows"]


class ReliabilityBin(NamedTuple):
    """Compares confidence and accuracy of the examples of one range of confidence."""

    low: float
    high: float
    confidence: float
    """Mean probability of the predicted class."""
    accuracy: float
    examples: int


def reliability(
    proba: Proba, labels: Labels, *, bins: int = 10
) -> tuple[ReliabilityBin, ...]:
    """Return confidence beside accuracy over equal-mass bins, rising.

    Equal confidences always share a bin, so bins may differ in mass, or be fewer.
    """
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
    """
    gaps = [
        row.examples * abs(row.confidence - row.accuracy)
        for row in reliability(proba, labels, bins=bins)
    ]
    return sum(gaps) / len(labels)


def fit_temperature(
    proba: Float[np.ndarray, "*repeats rows classes"], labels: Labels
) -> float:
    """Return the temperature that makes out-of-fold probabilities most likely.

    An example counts once, however often it was predicted. A Laplace prior keeps the
    temperature at exactly 1 until the examples speak against that, and loses its say
    as they come in. It holds on harder below 1: too sure an answer costs more than one
    not sure enough, and a model that was picked looks surer of the examples it was
    picked by than it is of others.

    Source:
        Guo et al., ICML 2017, section 4.2; the prior is ours.
    """
    from scipy.optimize import minimize_scalar

    logits = np.log(np.maximum(proba.astype(np.float64), LEAST))
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        scaled = _log_softmax(logits / np.exp(log_temperature))[..., rows, labels]
        scale = SOFTER if log_temperature > 0 else SHARPER
        prior = abs(log_temperature) / scale
        return float(prior - scaled.sum() * len(labels) / scaled.size)

    found = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded")
    return float(np.exp(min(0.0, float(found.x), key=loss)))


def apply_temperature(
    proba: Float[np.ndarray, "*rows classes"], temperature: float
) -> Float64[np.ndarray, "*rows classes"]:
    """Return the probabilities flattened (above 1) or sharpened (below 1)."""
    logits = np.log(np.maximum(proba.astype(np.float64), LEAST))
    return np.asarray(np.exp(_log_softmax(logits / temperature)))


def refinement_loss(proba: Proba, labels: Labels) -> float:
    """Return the log loss that is left when confidence is put right, in nats.

    That is the mean log loss at the temperature, of those in `TEMPERATURES`, at which
    it is least: it says how well predictions tell the classes apart, however sure they
    are of themselves. On few examples it depends less on luck than the share of right
    answers does.

    Source:
        Berta, Holzmueller, Jordan and Bach, arXiv:2501.19195, section 4.
    """
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


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
