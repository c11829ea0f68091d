"""Fitted heads: from feature vectors to outputs, in plain numpy."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Float32

Arrays = dict[str, np.ndarray]
Rows = Float[np.ndarray, "examples width"]
"""Features: one row an example."""
SparseRows = Any
"""The same as a matrix of `scipy.sparse`, each row of length 1."""
Outputs = Float[np.ndarray, "examples outputs"]
"""What is predicted; of classes, probabilities that sum to 1."""


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
    def fit(cls, features: Rows, rule: str) -> "Scaling":
        """Learn the scaling from training features.

        The rule is ``unit`` (unit length, centred, one common scale) or ``standard``
        (each column to zero mean and unit variance, over the root of the width, so
        that the expected squared length is 1 under both rules).
        """
        unit = rule == "unit"
        rows = unit_rows(features) if unit else features.astype(np.float64)
        center = rows.mean(axis=0)
        if unit:
            spread = np.sqrt(((rows - center) ** 2).sum(axis=1).mean())
            scale = np.full(rows.shape[1], max(spread, 1e-6))
        else:
            deviation = rows.std(axis=0)
            floor = max(1e-3 * float(deviation.mean()), 1e-6)
            scale = np.maximum(deviation, floor) * np.sqrt(rows.shape[1])
        return cls(
            unit=unit, center=center.astype(np.float32), scale=scale.astype(np.float32)
        )

    def apply(self, features: Rows) -> Rows:
        """Return the scaled features in float64."""
        rows = unit_rows(features) if self.unit else features.astype(np.float64)
        scaled: np.ndarray = (rows - self.center) / self.scale
        return scaled


class Head(ABC):
    """A fitted head: a dataclass of arrays and numbers, and a `scaling`."""

    __slots__ = ()

    kind: ClassVar[str]
    """Its name in saved models."""

    @abstractmethod
    def outputs(self, features: Rows) -> Outputs:
        """Return what is predicted."""

    def arrays(self) -> Arrays:
        """Return all that defines it, its scaling among it."""
        values = asdict(self)  # type: ignore[call-overload]
        values |= values.pop("scaling")
        return {name: np.atleast_1d(value) for name, value in values.items()}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Any:
        """Return what `arrays` came from."""
        scaling = Scaling(**_values(Scaling, arrays))
        return cls(scaling=scaling, **_values(cls, arrays))  # type: ignore[call-arg]

    @property
    def is_finite(self) -> bool:
        """Return whether every number in it is finite."""
        return all(bool(np.isfinite(array).all()) for array in self.arrays().values())


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearHead(Head):
    """Softmax of a linear map of the scaled features.

    A kind of target with another activation has a subclass that overrides `activate`.
    """

    scaling: Scaling
    weight: Float32[np.ndarray, "width outputs"]
    bias: Float32[np.ndarray, " outputs"]
    kind: ClassVar[str] = "linear"

    def outputs(self, features: Rows | SparseRows) -> Outputs:
        """Return class probabilities."""
        if not isinstance(features, np.ndarray):  # centred, they would be dense
            weight = self.weight / self.scaling.scale[:, None]
            bias = self.bias - self.scaling.center @ weight
            return self.activate(features @ weight + bias)
        return self.activate(self.scaling.apply(features) @ self.weight + self.bias)

    def activate(self, logits: Outputs) -> Outputs:
        """Return outputs for what the linear map gives."""
        return softmax(logits)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelHead(Head):
    """Softmax of a linear map of RBF similarities to the training examples."""

    scaling: Scaling
    support: Float32[np.ndarray, "support width"]
    """Scaled training features."""
    coefficients: Float32[np.ndarray, "support classes"]
    bias: Float32[np.ndarray, " classes"]
    gamma: float
    """Of exp(-gamma * squared distance)."""
    kind: ClassVar[str] = "kernel"

    def outputs(self, features: Rows) -> Outputs:
        """Return class probabilities."""
        similarity = rbf(self.scaling.apply(features), self.support, self.gamma)
        return softmax(similarity @ self.coefficients + self.bias)


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourHead(Head):
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
    kind: ClassVar[str] = "neighbour"

    def outputs(self, features: Rows) -> Outputs:
        """Return class probabilities."""
        cosine = unit_rows(self.scaling.apply(features)) @ self.points.T
        if self.neighbours < cosine.shape[1]:
            nearest = -np.partition(-cosine, self.neighbours - 1, axis=1)
            threshold = nearest[:, self.neighbours - 1 : self.neighbours]
            cosine = np.where(cosine >= threshold, cosine, -np.inf)
        weight = softmax(cosine * self.sharpness)
        smooth = 1e-3  # a class without a neighbour is unlikely, not impossible
        votes = weight @ self.votes + smooth
        proba: np.ndarray = votes / votes.sum(axis=1, keepdims=True)
        return proba


def _values(cls: type, arrays: Arrays) -> dict[str, Any]:
    return {
        each.name: arrays[each.name].item()
        if each.type in (bool, int, float)
        else arrays[each.name]
        for each in fields(cls)
        if each.name in arrays
    }


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


def unit_rows(rows: Rows) -> Rows:
    """Return the rows in float64, each brought to length 1."""
    wide = rows.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: np.ndarray = wide / np.maximum(norms, 1e-12)
    return unit
