"""Fitted heads: from feature vectors to class probabilities, in plain numpy."""

from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32

from fewshot_automl.errors import ExportError

Arrays = dict[str, np.ndarray]


@runtime_checkable
class Head(Protocol):
    """A fitted head."""

    @property
    def kind(self) -> str:
        """Return its name in `HEADS`."""
        ...

    def predict_proba(
        self, features: Float[np.ndarray, "examples width"]
    ) -> Float[np.ndarray, "examples classes"]:
        """Return class probabilities; each row sums to 1."""
        ...

    def arrays(self) -> Arrays:
        """Return all that defines it."""
        ...

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "Head":
        """Return the head that `arrays` came from."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """Puts features on a common footing before a head sees them.

    Rows are brought to unit length if `unit` (the angle carries the meaning in most
    encoders), then centred and divided column by column.
    """

    unit: bool
    center: Float32[np.ndarray, " width"]
    scale: Float32[np.ndarray, " width"]

    @classmethod
    def fit(cls, features: Float[np.ndarray, "examples width"], rule: str) -> "Scaling":
        """Learn the scaling from training features.

        Args:
            features: One row an example.
            rule: ``unit`` (unit length, centred, one common scale) or ``standard``
                (each column to zero mean and unit variance, over the root of the
                width, so that the expected squared length is 1 under both rules).
        """
        unit = rule == "unit"
        rows = _unit_rows(features) if unit else features.astype(np.float64)
        center = rows.mean(axis=0)
        if unit:
            spread = np.sqrt(((rows - center) ** 2).sum(axis=1).mean())
            scale = np.full(rows.shape[1], max(spread, 1e-6))
        else:
            deviation = rows.std(axis=0)
            floor = max(1e-3 * float(deviation.mean()), 1e-6)
            scale = np.maximum(deviation, floor) * np.sqrt(rows.shape[1])
        return cls(
            unit=unit,
            center=center.astype(np.float32),
            scale=scale.astype(np.float32),
        )

    def apply(
        self, features: Float[np.ndarray, "examples width"]
    ) -> Float[np.ndarray, "examples width"]:
        """Return the scaled features in float64."""
        rows = _unit_rows(features) if self.unit else features.astype(np.float64)
        scaled: np.ndarray = (rows - self.center) / self.scale
        return scaled

    def arrays(self) -> Arrays:
        """Return all that defines it."""
        return {
            "unit": np.array([self.unit]),
            "center": self.center,
            "scale": self.scale,
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "Scaling":
        """Return the scaling that `arrays` came from."""
        return cls(
            unit=bool(arrays["unit"][0]),
            center=arrays["center"],
            scale=arrays["scale"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearHead:
    """Softmax of a linear map of the scaled features."""

    scaling: Scaling
    weight: Float32[np.ndarray, "width classes"]
    bias: Float32[np.ndarray, " classes"]
    kind: str = "linear"

    def predict_proba(
        self, features: Float[np.ndarray, "examples width"]
    ) -> Float[np.ndarray, "examples classes"]:
        """Return class probabilities; each row sums to 1."""
        logits = self.scaling.apply(features) @ self.weight + self.bias
        return softmax(logits)

    def arrays(self) -> Arrays:
        """Return all that defines it."""
        return {**self.scaling.arrays(), "weight": self.weight, "bias": self.bias}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "LinearHead":
        """Return the head that `arrays` came from."""
        return cls(
            scaling=Scaling.from_arrays(arrays),
            weight=arrays["weight"],
            bias=arrays["bias"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelHead:
    """Softmax of a linear map of RBF similarities to the training examples."""

    scaling: Scaling
    support: Float32[np.ndarray, "support width"]
    """Scaled training features."""
    coefficients: Float32[np.ndarray, "support classes"]
    bias: Float32[np.ndarray, " classes"]
    gamma: float
    """Of exp(-gamma * squared distance)."""
    kind: str = "kernel"

    def predict_proba(
        self, features: Float[np.ndarray, "examples width"]
    ) -> Float[np.ndarray, "examples classes"]:
        """Return class probabilities; each row sums to 1."""
        similarity = rbf(self.scaling.apply(features), self.support, self.gamma)
        return softmax(similarity @ self.coefficients + self.bias)

    def arrays(self) -> Arrays:
        """Return all that defines it."""
        return {
            **self.scaling.arrays(),
            "support": self.support,
            "coefficients": self.coefficients,
            "bias": self.bias,
            "gamma": np.array([self.gamma]),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "KernelHead":
        """Return the head that `arrays` came from."""
        return cls(
            scaling=Scaling.from_arrays(arrays),
            support=arrays["support"],
            coefficients=arrays["coefficients"],
            bias=arrays["bias"],
            gamma=float(arrays["gamma"][0]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourHead:
    """Soft vote of the nearest training examples (or class means) by cosine.

    A class scores the log of the summed similarity weights of its members among the
    `neighbours` nearest points; class means are the case of one point a class.
    """

    scaling: Scaling
    points: Float32[np.ndarray, "points width"]
    """Scaled points, each of unit length."""
    votes: Float32[np.ndarray, "points classes"]
    """Class weights of each point."""
    neighbours: int
    sharpness: float
    """Inverse temperature of the cosine."""
    kind: str = "neighbour"

    def predict_proba(
        self, features: Float[np.ndarray, "examples width"]
    ) -> Float[np.ndarray, "examples classes"]:
        """Return class probabilities; each row sums to 1."""
        cosine = _unit_rows(self.scaling.apply(features)) @ self.points.T
        if self.neighbours < cosine.shape[1]:
            nearest = -np.partition(-cosine, self.neighbours - 1, axis=1)
            threshold = nearest[:, self.neighbours - 1 : self.neighbours]
            cosine = np.where(cosine >= threshold, cosine, -np.inf)
        weight = softmax(cosine * self.sharpness)
        smooth = 1e-3  # a class without a neighbour is unlikely, not impossible
        votes = weight @ self.votes + smooth
        proba: np.ndarray = votes / votes.sum(axis=1, keepdims=True)
        return proba

    def arrays(self) -> Arrays:
        """Return all that defines it."""
        return {
            **self.scaling.arrays(),
            "points": self.points,
            "votes": self.votes,
            "neighbours": np.array([self.neighbours]),
            "sharpness": np.array([self.sharpness]),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "NeighbourHead":
        """Return the head that `arrays` came from."""
        return cls(
            scaling=Scaling.from_arrays(arrays),
            points=arrays["points"],
            votes=arrays["votes"],
            neighbours=int(arrays["neighbours"][0]),
            sharpness=float(arrays["sharpness"][0]),
        )


def softmax(
    logits: Float[np.ndarray, "*shape classes"],
) -> Float[np.ndarray, "*shape classes"]:
    """Return the softmax over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    proba: np.ndarray = shifted / shifted.sum(axis=-1, keepdims=True)
    return proba


def rbf(
    left: Float[np.ndarray, "left width"],
    right: Float[np.ndarray, "right width"],
    gamma: float,
) -> Float[np.ndarray, "left right"]:
    """Return exp(-gamma * squared distance) for each pair of rows."""
    similarity: np.ndarray = np.exp(-gamma * squared_distances(left, right))
    return similarity


def squared_distances(
    left: Float[np.ndarray, "left width"], right: Float[np.ndarray, "right width"]
) -> Float[np.ndarray, "left right"]:
    """Return the squared Euclidean distance of each pair of rows."""
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None, :]
    distances: np.ndarray = np.maximum(squares - 2.0 * (left @ right.T), 0.0)
    return distances


def _unit_rows(
    rows: Float[np.ndarray, "examples width"],
) -> Float[np.ndarray, "examples width"]:
    wide = rows.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: np.ndarray = wide / np.maximum(norms, 1e-12)
    return unit


HEADS: Final[dict[str, type[Head]]] = {
    "linear": LinearHead,
    "kernel": KernelHead,
    "neighbour": NeighbourHead,
}


def head_from_state(kind: str, arrays: Arrays) -> Head:
    """Return a head from its kind and arrays.

    Raises:
        ExportError: If the kind is not one of `HEADS`.
    """
    if kind not in HEADS:
        raise ExportError(
            f"Head must be one of {', '.join(HEADS)}, got {kind!r}. The model was "
            "written by a newer version; update fewshot_automl."
        )
    return HEADS[kind].from_arrays(arrays)
