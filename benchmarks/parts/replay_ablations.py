"""Our oracle with one thing taken away."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from math import nan

import numpy as np
from landscape import FOLDS
from parts.replay_landscape import Landscape

from fewshot_automl.oracle.oracle import Oracle
from fewshot_automl.oracle.part import Part
from fewshot_automl.oracle.past import Past
from fewshot_automl.oracle.prior import Prior
from fewshot_automl.outcome import History, Outcome
from fewshot_automl.space import Choice, Config, Space

SHRUNK = 4.0
"""Degrees of freedom that the variance between folds of all trials is worth."""


@dataclass(frozen=True)
class Scene:
    """What the oracle of one replay may be made from."""

    landscape: Landscape
    """Of the task itself, of which only the space may be used."""
    others: tuple[Landscape, ...]
    """Of all other tasks of its modality: past studies."""


@dataclass(frozen=True)
class Shown:
    """An oracle that is shown another space, or another history."""

    oracle: Oracle
    space: Callable[[Space], Space] = lambda space: space
    history: Callable[[History], History] = lambda history: history

    def suggest(
        self,
        space: Space,
        history: History,
        n: int,
        seed: int,
        within: Part | None = None,
    ) -> list[Config]:
        """Suggest from what is shown."""
        return self.oracle.suggest(
            self.space(space), self.history(history), n, seed, within
        )


@dataclass(frozen=True)
class Tireless:
    """An oracle that goes on where all that is left of a pool is hopeless."""

    oracle: Oracle

    def suggest(
        self,
        space: Space,
        history: History,
        n: int,
        seed: int,
        within: Part | None = None,
    ) -> list[Config]:
        """Suggest what the oracle does, or else what comes first in the pool."""
        found = self.oracle.suggest(space, history, n, seed, within)
        if found or within is None or isinstance(within, Space):
            return found
        return list(within)[:n]


def without_descriptors(space: Space) -> Space:
    """Return a space whose options have names only."""
    return Space(
        tuple(
            replace(d, descriptors=None) if isinstance(d, Choice) else d
            for d in space.dimensions
        )
    )


def without_noise(history: History) -> History:
    """Return a history that knows neither its standard errors nor its folds."""
    return [
        (config, replace(o, standard_error=nan, scores=())) for config, o in history
    ]


def doubted(history: History) -> History:
    """Return a history whose standard errors are larger by the root of 5.

    The share of their squares that the surrogate expects to be noise between Configs,
    0.2, is then all of what they were.
    """
    return [
        (config, replace(o, standard_error=o.standard_error * math.sqrt(5)))
        for config, o in history
    ]


def fold_errors(history: History) -> History:
    """Return a history whose standard errors are those of the means of folds.

    The variance between a trial's folds, shrunk to that of all trials, since there are
    few folds; corrected for the overlap of training parts (Nadeau and Bengio, 2003).
    """
    parted = [o for _, o in history if o.is_done and len(o.scores) > 1]
    if not parted:
        return history
    usual = float(np.mean([np.var(o.scores, ddof=1) for o in parted]))

    def told(outcome: Outcome) -> Outcome:
        count = len(outcome.scores)
        if not outcome.is_done or count < 2:
            return outcome
        own = (count - 1) * float(np.var(outcome.scores, ddof=1))
        variance = (own + SHRUNK * usual) / (count - 1 + SHRUNK)
        overlap = 1 / (FOLDS - 1)
        return replace(
            outcome, standard_error=math.sqrt(variance * (1 / count + overlap))
        )

    return [(config, told(outcome)) for config, outcome in history]


def prior_for(scene: Scene) -> Prior:
    """Return the prior of all other tasks' recorded trials."""
    return Prior(studies=tuple(past_of(one) for one in scene.others))


def wrong_prior_for(scene: Scene) -> Prior:
    """Return a prior that takes the worst of other tasks for the best."""
    return Prior(
        studies=tuple(
            replace(study, scores=tuple(-score for score in study.scores))
            for study in prior_for(scene).studies
        )
    )


@cache
def past_of(landscape: Landscape) -> Past:
    """Return a landscape, distilled as a past study."""
    history = [(trial.config, trial.outcome) for trial in landscape.trials.values()]
    return Past.of(
        landscape.name, landscape.space, history, kind=landscape.facts.modality
    )
