"""Ways to pick the next dear Config of a pool: ours, random, and Optuna's TPE."""

from collections.abc import Callable, Sequence

import numpy as np
import optuna
from fewshot_automl.trial.design import dear_space
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from parts.replay_landscape import Landscape
from speed_oracle import asked_of

from fewshot_automl.oracle.encoding import dissimilarity
from fewshot_automl.oracle.oracle import Oracle
from fewshot_automl.outcome import History
from fewshot_automl.space import Choice, Config, Dimension, Float, Space, Value
from fewshot_automl.trial.workload import is_dear

Sampler = Callable[[History, Sequence[Config], int], Config]
"""Picks one of the untried Configs (second argument), given a history and a seed. It
keeps nothing between calls; a study has one seed."""

MOST_ASKED = 20
"""Times that TPE is asked again where it wants a quick Config."""


def at_random(history: History, left: Sequence[Config], seed: int) -> Config:
    """Pick any."""
    generator = np.random.default_rng([seed, len(history)])
    return left[int(generator.integers(len(left)))]


def from_pool(landscape: Landscape, oracle: Oracle) -> Sampler:
    """Return a sampler that lets an oracle choose within the pool."""

    def ask(history: History, left: Sequence[Config], seed: int) -> Config:
        (config,) = oracle.suggest(landscape.space, history, 1, seed, within=left)
        return config

    return ask


def snapped_oracle(landscape: Landscape, oracle: Oracle) -> Sampler:
    """Return a sampler whose oracle suggests anything dear, and gets what is nearest.

    So it is as badly off as those that cannot choose from a pool.
    """
    dear = dear_space(landscape.space)

    def ask(history: History, left: Sequence[Config], seed: int) -> Config:
        (config,) = oracle.suggest(landscape.space, history, 1, seed, within=dear)
        return nearest(landscape, config, left)

    return ask


def nearest(landscape: Landscape, wanted: Config, left: Sequence[Config]) -> Config:
    """Return the Config of a pool that is most like another, as the encoding has it."""
    encoding = landscape.encoding
    rows = np.array([landscape.rows[config] for config in left])
    gaps = dissimilarity(encoding.layout, encoding.encode([wanted]), rows)[0]
    return left[int(gaps.argmin())]


def tpe(landscape: Landscape) -> Sampler:
    """Return Optuna's TPE, multivariate and with groups for the conditional parts.

    What it asks for is snapped to the nearest Config of the pool, and it is told that
    one. Where it asks for a quick Config, which all were tried, it is asked again.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = landscape.space
    distributions = {d.name: distribution(d) for d in space.dimensions}

    def ask(history: History, left: Sequence[Config], seed: int) -> Config:
        sampler = optuna.samplers.TPESampler(
            seed=seed + 1000 * len(history), multivariate=True, group=True
        )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials(
            [
                optuna.trial.create_trial(
                    params=config.to_json(),
                    distributions={name: distributions[name] for name in config},
                    value=outcome.mean,
                )
                for config, outcome in history
                if outcome.is_done
            ]
        )
        for _ in range(MOST_ASKED):
            trial = study.ask()
            wanted = Config.of(asked_values(space, trial))
            if is_dear(wanted):
                break
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return nearest(landscape, wanted, left)

    return ask


def asked_values(space: Space, trial: optuna.Trial) -> dict[str, Value]:
    """Return what a trial of Optuna suggests for the active dimensions."""
    values: dict[str, Value] = {}
    for dimension in space.dimensions:
        if space.is_active(dimension, values):
            values[dimension.name] = asked_of(trial, dimension)
    return values


def distribution(dimension: Dimension) -> BaseDistribution:
    """Return a dimension in Optuna's words."""
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.options)
    kind = FloatDistribution if isinstance(dimension, Float) else IntDistribution
    return kind(dimension.low, dimension.high, log=dimension.log)
