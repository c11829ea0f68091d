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
from fewshot_automl.oracle.scores import differ, winsorised
from fewshot_automl.outcome import History
from fewshot_automl.space import Choice, Config, Float, Int, Space, Value

MOST_POINTS: Final = 60
"""Configs that are kept of a study."""
LEADERS: Final = 5
"""Best Configs of a study, kept in any case."""
LEAST_TRIALS: Final = 5
"""Done trials below which a study teaches nothing."""
NOISE: Final = 0.1
"""Variance of a kept score that is not explained, in units of the scores' variance."""
IDENTITY: Final = 0.5
"""How unlike two options with descriptors are for being two. Without descriptors it is
1, as are the two ends of a number's range, and descriptors of their usual spread."""
FARTHEST: Final = 10.0
"""Ranges from a range's low end beyond which all values are alike: very far."""

Points = Float64[np.ndarray, "configs columns"]
Said = Float64[np.ndarray, " configs"]


@dataclass(frozen=True, kw_only=True)
class Past:
    """Holds some Configs of a finished study and how good they were there.

    Its predictions are the mean of a Gaussian process with a fixed kernel over the
    dimensions that another space shares by name: 0 is the study's mean, 1 a standard
    deviation above, and what is like nothing in it gets 0.
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
        """
        from fewshot_automl.oracle.incumbent import posterior_means

        means = posterior_means(space, history, seed=0)
        best = {
            history[i][0]: mean
            for i, mean in means.items()
            if space.contains(history[i][0])
        }
        configs = sorted(best, key=lambda config: (-best[config], config.key))
        raw = np.array([best[config] for config in configs], dtype=np.float64)
        if len(configs) < LEAST_TRIALS or not differ(raw):
            raise UserError(
                f"Study {name!r} must have {LEAST_TRIALS} done trials or more with "
                f"scores that differ, got {len(configs)}. Leave it out."
            )
        fenced = winsorised(raw)
        scores = (fenced - fenced.mean()) / fenced.std()
        kept = _telling(_places(space, configs, space), scores)
        return cls(
            name=name,
            kind=kind,
            trials=len(configs),
            space=space,
            configs=tuple(
                Config.of({n: _rounded(v) for n, v in configs[i].items}) for i in kept
            ),
            scores=tuple(float(_rounded(float(scores[i]))) for i in kept),
        )

    def predict(self, space: Space, configs: Sequence[Config]) -> Said:
        """Return what the study says of Configs of any space.

        Dimensions are matched by name and kind. What the study's space does not have
        is ignored; what a Config does not have stands in the middle. An option that
        the study does not know is placed by its descriptors. Without any, nothing can
        be said of it.
        """
        places = _places(self.space, configs, space)
        known = np.isfinite(places).all(axis=1)
        points, weights = self._fitted
        said = _kernel(np.where(known[:, None], places, 0.0), points) @ weights
        return np.asarray(np.where(known, said, 0.0))

    @cached_property
    def _fitted(self) -> tuple[Points, Said]:
        """Return where the points stand, and what each adds to a prediction."""
        places = _places(self.space, self.configs, self.space)
        covariance = _kernel(places, places) + NOISE * np.eye(len(places))
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
            return cls(
                name=str(values["name"]),
                kind=str(values["kind"]),
                trials=int(values["trials"]),
                weight=float(values["weight"]),
                space=Space.from_json(values["space"]),
                configs=tuple(
                    Config.of({str(n): _value(v) for n, v in row if v is not None})
                    for row in rows
                ),
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


def _places(space: Space, configs: Sequence[Config], other: Space) -> Points:
    """Return where Configs of another space stand, NaN in rows of unknown options.

    Distance is unlikeness, in the terms of `space`.
    """
    values = [config.to_json() for config in configs]
    columns = [np.empty((len(configs), 0))]
    for dimension in space.dimensions:
        cells = [row.get(dimension.name) for row in values]
        if isinstance(dimension, Choice):
            table = {
                cell: _option_place(dimension, str(cell), other)
                for cell in set(cells)
                if isinstance(cell, str)
            }
            absent = np.zeros_like(_option_place(dimension, dimension.options[0], space))
            columns.append(
                np.array([table.get(cell, absent) for cell in cells]).reshape(
                    len(cells), -1
                )
            )
        elif dimension.high > dimension.low:
            columns.append(_along(dimension, cells)[:, None])
    return np.hstack(columns)


def _along(dimension: Float | Int, cells: Sequence[Value | None]) -> Said:
    """Return where numbers stand in a range, the middle where there is none."""
    low, high = float(dimension.low), float(dimension.high)
    numbers = np.array(
        [np.nan if cell is None or isinstance(cell, str) else cell for cell in cells],
        dtype=np.float64,
    )
    if dimension.log:
        numbers = np.log(np.where(numbers > 0, numbers, np.nan))
        low, high = np.log(low), np.log(high)
    places = np.clip((numbers - low) / (high - low), -FARTHEST, FARTHEST)
    return np.asarray(np.where(np.isnan(places), 0.5, places))


def _option_place(
    choice: Choice, option: str, other: Space
) -> Float64[np.ndarray, " columns"]:
    """Return where an option stands; NaN if it is unknown and not described.

    A spread of descriptors below 1 counts as 1: where all options are nearly alike, a
    slight difference is no great one.
    """
    apart = 1.0 if choice.descriptors is None else IDENTITY
    same = np.array([option == o for o in choice.options]) * apart / np.sqrt(2)
    if choice.descriptors is None:
        return same if option in choice.options else np.full(len(same), np.nan)
    table = np.array(choice.descriptors, dtype=np.float64)
    facts = _facts(choice, option)
    if facts is None and choice.name in other:
        theirs = other[choice.name]
        facts = _facts(theirs, option) if isinstance(theirs, Choice) else None
    if facts is None or len(facts) != table.shape[1]:
        return np.full(len(same) + table.shape[1], np.nan)
    known = np.isfinite(table)
    count = np.maximum(known.sum(axis=0), 1)
    middle = np.where(known, table, 0.0).sum(axis=0) / count
    squares = np.square(np.where(known, table - middle, 0.0)).sum(axis=0)
    away = (np.array(facts) - middle) / np.maximum(np.sqrt(squares / count), 1.0)
    away = np.clip(np.nan_to_num(away), -FARTHEST, FARTHEST)
    return np.concatenate([same, away / np.sqrt(max(len(facts), 1))])


def _facts(choice: Choice, option: str) -> tuple[float, ...] | None:
    """Return the descriptors of an option, None if the choice has none of it."""
    if choice.descriptors is None or option not in choice.options:
        return None
    return choice.descriptors[choice.options.index(option)]


def _kernel(left: Points, right: Points) -> Float64[np.ndarray, "left right"]:
    """Return how alike places are: 1 for the same, 0 far away."""
    from scipy.spatial.distance import cdist  # here, for a quick start elsewhere

    return np.asarray(np.exp(-0.5 * cdist(left, right, "sqeuclidean")))


def _telling(places: Points, scores: Said) -> list[int]:
    """Return which trials to keep so that predictions at all of them stay close.

    The best come first, as they stand. Then, one after another, the trial comes whose
    score leaves the least squared error at all when it is made known to the process.
    """
    covariance, error = _kernel(places, places), scores.copy()
    kept: list[int] = []
    for step in range(min(MOST_POINTS, len(scores))):
        gains = covariance / (np.diag(covariance) + NOISE)
        left = np.square(error[:, None] - gains * error).sum(axis=0)
        left[kept] = np.inf
        best = step if step < LEADERS else int(np.argmin(left))
        kept.append(best)
        error = error - gains[:, best] * error[best]
        covariance = covariance - np.outer(gains[:, best], covariance[best])
    return sorted(kept)


def _rounded(value: Value) -> Value:
    """Return a value as a file has it: with four digits."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _value(value: object) -> Value:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError(f"{value!r} is no value of a dimension")
    return value
