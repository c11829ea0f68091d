"""What one finished study teaches, in a few points."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from jaxtyping import Float64

from fewshot_automl.errors import UserError
from fewshot_automl.oracle.encoding import Encoding
from fewshot_automl.oracle.incumbent import posterior_means
from fewshot_automl.oracle.scores import differ, winsorised
from fewshot_automl.outcome import History
from fewshot_automl.space import Choice, Config, Dimension, Space, Value

MOST_POINTS: Final = 60
"""Configs that are kept of a study."""
LEADERS: Final = 5
"""Best Configs of a study, kept in any case."""
LEAST_TRIALS: Final = LEADERS
"""Done trials below which a study teaches nothing."""
NOISE: Final = 0.1
"""Variance of a kept score that is not explained, in units of the scores' variance."""
SPAN: Final = 1.5
"""How unlike the two ends of a number's range are."""
OPTION: Final = 0.6
"""How unlike two options are, over the root of 2."""
FARTHEST: Final = 2.0
"""Spreads of descriptors beyond which options have nothing in common."""

Places = Float64[np.ndarray, "_ _"]
Numbers = Float64[np.ndarray, " _"]


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

    @classmethod
    def of(cls, name: str, space: Space, history: History, *, kind: str = "") -> "Past":
        """Distil a finished study: scores without luck, and a few of its Configs.

        Raises:
            UserError: If fewer than `LEAST_TRIALS` trials are done, or all of them
                score the same.
        """
        best = {
            history[i][0]: mean
            for i, mean in posterior_means(space, history, seed=0).items()
            if space.contains(history[i][0])
        }
        configs = sorted(best, key=lambda config: (-best[config], config.key))
        raw = np.array([best[config] for config in configs], dtype=np.float64)
        if len(configs) < LEAST_TRIALS or not differ(raw):
            raise UserError(
                f"Study {name!r} must have {LEAST_TRIALS} done trials or more with "
                f"scores that differ, got {len(configs)}. Leave it out."
            )
        scores = (winsorised(raw) - winsorised(raw).mean()) / winsorised(raw).std()
        # The best as they stand, the others evenly by rank.
        most = min(MOST_POINTS, len(scores))
        ranks = np.linspace(LEADERS, len(scores) - 1, most - LEADERS).astype(int)
        kept = [*range(LEADERS), *ranks.tolist()]
        return cls(
            name=name,
            kind=kind,
            trials=len(configs),
            space=space,
            configs=tuple(configs[i] for i in kept),
            scores=tuple(round(float(scores[i]), 4) for i in kept),
        )

    def predict(self, space: Space, configs: Sequence[Config]) -> Numbers:
        """Return what the study says of Configs of any space.

        Each is translated into the study's space. Of an option that is like none of
        the study's nothing can be said.
        """
        own = [_translated(config, space, self.space) for config in configs]
        known = np.array([config is not None for config in own], dtype=bool)
        points, weights = self._fitted
        said = np.zeros(len(configs))
        places = _places(self._encoding, [config for config in own if config])
        said[known] = _kernel(places, points) @ weights
        return said

    @cached_property
    def _encoding(self) -> Encoding:
        return Encoding(self.space)

    @cached_property
    def _fitted(self) -> tuple[Places, Numbers]:
        """Return where the points stand, and what each adds to a prediction."""
        places = _places(self._encoding, self.configs)
        covariance = _kernel(places, places) + NOISE * np.eye(len(places))
        return places, np.linalg.solve(covariance, np.array(self.scores))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values: the points as a table, None where inactive."""
        names = sorted({name for config in self.configs for name in config})
        values = [config.to_json() for config in self.configs]
        plain = {n: getattr(self, n) for n in ("name", "kind", "trials", "weight")}
        return {
            **plain,
            "space": self.space.to_json(),
            "columns": names,
            "points": [[row.get(name) for name in names] for row in values],
            "scores": list(self.scores),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Past":
        """Return the study that `to_json` wrote; a UserError if it is none."""
        try:
            table = [
                dict(zip(values["columns"], row, strict=True))
                for row in values["points"]
            ]
            made = cls(
                name=str(values["name"]),
                kind=str(values["kind"]),
                trials=int(values["trials"]),
                weight=float(values["weight"]),
                space=Space.from_json(values["space"]),
                configs=tuple(
                    Config.of({n: _value(v) for n, v in row.items() if v is not None})
                    for row in table
                ),
                scores=tuple(map(float, values["scores"])),
            )
            if not np.isfinite([made.weight, *made.scores]).all() or made.weight <= 0:
                raise ValueError("weight and scores must be finite numbers")
            if not len(made.configs) == len(made.scores) > 0:
                raise ValueError("each point must have a score")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                "A study in a prior must be as `fewshot prior build` writes it, got "
                f"{json.dumps(values, default=str)[:80]} "
                f"({type(error).__name__}: {error}). Build the prior anew."
            ) from error
        return made


def _translated(config: Config, space: Space, own: Space) -> Config | None:
    """Return the Config of a study's own space that is most like one of another space.

    Dimensions are matched by name. What the study does not have is left out, what the
    Config does not have stands in the middle. An option that the study does not know
    becomes the one with the nearest descriptors; None if there is none near.
    """
    given, values = config.to_json(), dict[str, Value]()
    theirs = {dimension.name: dimension for dimension in space.dimensions}
    for d in own.dimensions:
        if not own.is_active(d, values):
            continue
        value = given.get(d.name)
        if isinstance(d, Choice):
            if isinstance(value, str) and value not in d.options:
                value = _nearest(d, theirs[d.name], value)
                if value is None:
                    return None
            values[d.name] = value if value in d.options else d.options[0]
        elif isinstance(value, int | float) and (value > 0 or not d.log):
            values[d.name] = d.decode(d.encode(value))
        else:
            values[d.name] = d.decode(0.5)
    return Config.of(values)


def _nearest(choice: Choice, theirs: Dimension, option: str) -> str | None:
    """Return the option whose descriptors are nearest to those of a foreign one.

    A spread below 1 counts as 1: a slight difference between like options is no great
    one.
    """
    rows = theirs.descriptors if isinstance(theirs, Choice) else None
    if not choice.descriptors or not rows or len(rows[0]) != len(choice.descriptors[0]):
        return None
    assert isinstance(theirs, Choice)
    table = np.array(choice.descriptors, dtype=np.float64)
    facts = np.array(rows[theirs.options.index(option)], dtype=np.float64)
    gaps = np.nan_to_num((table - facts) / np.nanstd(table, axis=0).clip(1))
    distances = np.square(gaps).mean(axis=1)
    best = int(distances.argmin())
    return choice.options[best] if distances[best] < FARTHEST**2 else None


def _places(encoding: Encoding, configs: Sequence[Config]) -> Places:
    """Return where Configs stand, so that distance is unlikeness."""
    layout, rows = encoding.layout, encoding.encode(configs)
    columns = [rows[:, : len(layout.continuous)] * SPAN]
    for place, count in enumerate(layout.options, len(layout.continuous)):
        columns.append((rows[:, place, None] == np.arange(count)) * OPTION)
    return np.hstack(columns)


def _kernel(left: Places, right: Places) -> Float64[np.ndarray, "left right"]:
    """Return how alike places are: 1 for the same, 0 far away."""
    from scipy.spatial.distance import cdist  # here, for a quick start elsewhere

    return np.asarray(np.exp(-0.5 * cdist(left, right, "sqeuclidean")))


def _value(value: object) -> Value:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError(f"{value!r} is no value of a dimension")
    return value
