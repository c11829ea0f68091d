"""What one finished study teaches, in a few points."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from jaxtyping import Float64
from numpy.linalg import LinAlgError

from fewshot_automl.errors import UserError
from fewshot_automl.oracle.likeness import Likeness, Sheet
from fewshot_automl.oracle.winner import smoothed_scores
from fewshot_automl.outcome import History
from fewshot_automl.space import Config, Space, Value

MOST_POINTS: Final = 60
"""Configs that are kept of a study."""
LEADERS: Final = 5
"""Best Configs of a study, kept in any case."""
LEAST_TRIALS: Final = 5
"""Done trials below which a study teaches nothing."""
NOISE: Final = 0.1
"""Variance of a kept score that is not explained, in units of the scores' variance."""
FENCE: Final = 3.0
"""Quartile distances below the lower quartile at which a score is far out."""
DIGITS: Final = 4
"""Significant digits of the numbers in a file."""


@dataclass(frozen=True, kw_only=True)
class Past:
    """Holds some Configs of a finished study and how good they were there.

    Its predictions are the mean of a Gaussian process with a fixed kernel over the
    dimensions that another space shares by name (see `Likeness`): 0 is the study's
    mean, 1 a standard deviation above, and what is like nothing in it gets 0.
    """

    name: str
    """The study's, one of its own in a prior."""
    kind: str = ""
    """What the study was about, for example `text`; empty if nobody said."""
    trials: int
    """How many done trials stand behind the points."""
    weight: float = 1.0
    """How much it counts beside other studies while nothing else is known."""
    space: Space
    """Where the Configs live."""
    configs: tuple[Config, ...]
    """Some of those tried, the best among them."""
    scores: tuple[float, ...]
    """Their scores without luck, in standard deviations from the study's mean."""

    def __post_init__(self) -> None:
        """Check that the parts agree."""
        if not self.configs or len(self.configs) != len(self.scores):
            raise UserError(
                f"Study {self.name!r} must have one score for each Config and at least "
                f"one, got {len(self.scores)} for {len(self.configs)}. Build it anew."
            )
        if not np.isfinite([self.weight, *self.scores]).all() or self.weight <= 0:
            raise UserError(
                f"Scores and weight of study {self.name!r} must be finite and the "
                f"weight above 0, got weight {self.weight}. Build it anew."
            )

    @classmethod
    def of(cls, name: str, space: Space, history: History, *, kind: str = "") -> "Past":
        """Distil a finished study: score without luck, then keep what tells most.

        Args:
            name: The study's.
            space: Where it searched.
            history: What it tried; only done trials that the space knows count.
            kind: What it was about.

        Raises:
            UserError: If fewer than `LEAST_TRIALS` trials are done, or all of them
                score the same.

        >>> from fewshot_automl.outcome import History, Outcome
        >>> from fewshot_automl.space import Float
        >>> history = [
        ...     (Config.of({"x": x / 8}), Outcome(status="done", mean=x / 8))
        ...     for x in range(9)
        ... ]
        >>> space = Space((Float(name="x", low=0.0, high=1.0),))
        >>> past = Past.of("toy", space, history)
        >>> here = [Config.of({"x": 0.9}), Config.of({"x": 0.1})]
        >>> past.predict(space, here).round(0).tolist()
        [1.0, -1.0]
        """
        smooth = smoothed_scores(space, history, seed=0)
        best = {
            history[i][0]: score
            for i, score in sorted(smooth.items())
            if space.contains(history[i][0])
        }
        configs = sorted(best, key=lambda config: (-best[config], config.key))
        scores = standard(np.array([best[config] for config in configs]))
        if len(configs) < LEAST_TRIALS or not scores.any():
            raise UserError(
                f"Study {name!r} must have {LEAST_TRIALS} done trials or more with "
                f"scores that differ, got {len(configs)}. Leave it out."
            )
        places, _ = Likeness(space).places(Sheet(configs))
        kept = telling(places, scores, MOST_POINTS)
        return cls(
            name=name,
            kind=kind,
            trials=len(configs),
            space=space,
            configs=tuple(_rounded(configs[i]) for i in kept),
            scores=tuple(_significant(scores[i]) for i in kept),
        )

    def predict(
        self, space: Space, configs: Sequence[Config]
    ) -> Float64[np.ndarray, " configs"]:
        """Return what the study says of Configs of any space."""
        return self.predict_sheet(space, Sheet(configs))

    def predict_sheet(
        self, space: Space, sheet: Sheet
    ) -> Float64[np.ndarray, " configs"]:
        """Return what the study says of Configs that others are asked about too."""
        places, known = self._likeness.places(sheet, space)
        points, weights = self._fitted
        return np.asarray(np.where(known, kernel(places, points) @ weights, 0.0))

    @cached_property
    def _likeness(self) -> Likeness:
        return Likeness(self.space)

    @cached_property
    def _fitted(
        self,
    ) -> tuple[Float64[np.ndarray, "points columns"], Float64[np.ndarray, " points"]]:
        """Return where the points stand, and what each adds to a prediction."""
        places, _ = self._likeness.places(Sheet(self.configs))
        covariance = kernel(places, places) + NOISE * np.eye(len(places))
        return places, np.linalg.solve(covariance, np.array(self.scores))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values: the points as a table, None where inactive."""
        names = sorted({name for config in self.configs for name in config})
        values = [config.to_json() for config in self.configs]
        return {
            "name": self.name,
            "kind": self.kind,
            "trials": self.trials,
            "weight": self.weight,
            "space": self.space.to_json(),
            "columns": names,
            "points": [[row.get(name) for name in names] for row in values],
            "scores": list(self.scores),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Past":
        """Return the study that `to_json` wrote.

        Raises:
            UserError: If something is missing or not what it should be.
        """
        try:
            rows = [
                zip(values["columns"], row, strict=True) for row in values["points"]
            ]
            configs = [
                Config.of({str(n): _value(v) for n, v in row if v is not None})
                for row in rows
            ]
            return cls(
                name=str(values["name"]),
                kind=str(values["kind"]),
                trials=int(values["trials"]),
                weight=float(values["weight"]),
                space=Space.from_json(values["space"]),
                configs=tuple(configs),
                scores=tuple(map(float, values["scores"])),
            )
        except UserError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, LinAlgError) as error:
            raise UserError(
                "A study in a prior must be as `fewshot prior build` writes it, got "
                f"{json.dumps(values, default=str)[:80]} "
                f"({type(error).__name__}: {error}). Build the prior anew."
            ) from error


def kernel(
    left: Float64[np.ndarray, "left columns"],
    right: Float64[np.ndarray, "right columns"],
) -> Float64[np.ndarray, "left right"]:
    """Return how alike places are: 1 for the same, 0 far away."""
    from scipy.spatial.distance import cdist  # here, for a quick start elsewhere

    gaps = cdist(left, right, "sqeuclidean")
    return np.asarray(np.exp(-0.5 * gaps), dtype=np.float64)


def standard(
    scores: Float64[np.ndarray, " trials"],
) -> Float64[np.ndarray, " trials"]:
    """Return scores with mean 0 and standard deviation 1; all 0 if they are equal.

    Those far below all others are moved up to the outer fence, lest they flatten
    every other difference; see `surrogate.standardised`.
    """
    if not len(scores) or np.ptp(scores) <= 1e-12 * np.abs(scores).max():
        return np.zeros(len(scores))
    lower, upper = np.quantile(scores, [0.25, 0.75])
    if upper > lower:
        scores = np.maximum(scores, lower - FENCE * (upper - lower))
    return np.asarray((scores - scores.mean()) / scores.std(), dtype=np.float64)


def telling(
    places: Float64[np.ndarray, "trials columns"],
    scores: Float64[np.ndarray, " trials"],
    most: int,
) -> list[int]:
    """Return which trials to keep so that predictions at all of them stay close.

    The best come first. Then, one after another, the trial comes whose score leaves
    the least squared error at all trials when it is made known to the process.

    Args:
        places: Where the trials stand, the best first.
        scores: Standardised; the process has mean 0 and variance 1 beforehand.
        most: How many to keep.
    """
    covariance = kernel(places, places)
    error = scores.copy()
    kept: list[int] = []
    for step in range(min(most, len(scores))):
        gains = covariance / (np.diag(covariance) + NOISE)
        left = np.square(error[:, None] - gains * error).sum(axis=0)
        left[kept] = np.inf
        best = step if step < LEADERS else int(np.argmin(left))
        kept.append(best)
        error = error - gains[:, best] * error[best]
        covariance = covariance - np.outer(gains[:, best], covariance[best])
    return sorted(kept)


def _rounded(config: Config) -> Config:
    return Config.of(
        {
            name: _significant(value) if isinstance(value, float) else value
            for name, value in config.items
        }
    )


def _significant(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")


def _value(value: object) -> Value:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError(f"{value!r} is no value of a dimension")
    return value
