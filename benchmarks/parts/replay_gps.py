"""Other people's Gaussian processes, which choose from a pool as ours does."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution
from parts.replay_landscape import Landscape
from parts.replay_samplers import Sampler, at_random, distribution
from speed_oracle import filled

from fewshot_automl.outcome import History
from fewshot_automl.space import Choice, Config, Space, Value

INACTIVE = "inactive"
"""Option of a conditional Choice that stands for its absence."""


class PoolGPSampler(optuna.samplers.GPSampler):
    """Optuna's GP sampler, its acquisition maximised over a pool.

    Everything else is stock: kernel, priors, fit and log expected improvement.
    `_optimize_acqf` is what Optuna lets advanced users replace.
    """

    def __init__(self, pool: Sequence[dict[str, Value]], seed: int) -> None:
        super().__init__(seed=seed, warn_independent_sampling=False)
        self.pool = list(pool)
        self.chosen: int | None = None

    def _optimize_acqf(self, acqf: Any, best_params: np.ndarray | None) -> np.ndarray:
        rows = acqf.search_space.get_normalized_params(
            [None] * len(self.pool), self.pool
        )
        self.chosen = int(acqf.eval_acqf_no_grad(rows).argmax())
        return rows[self.chosen]


def optuna_gp(landscape: Landscape) -> Sampler:
    """Return Optuna's GP sampler on the flat space.

    It models only what all trials share, so conditional dimensions are filled in
    where they are not active: numbers by their middle, choices by one more option.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = landscape.space
    distributions = flat(space)

    def ask(history: History, left: Sequence[Config], seed: int) -> Config:
        pool = [flat_values(space, config) for config in left]
        sampler = PoolGPSampler(pool, seed + 1000 * len(history))
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials(
            [
                optuna.trial.create_trial(
                    params=flat_values(space, config),
                    distributions=distributions,
                    value=outcome.mean,
                )
                for config, outcome in history
                if outcome.is_done
            ]
        )
        study.ask(distributions)  # so that every dimension is sampled
        if sampler.chosen is None:  # too few trials for its surrogate
            return at_random(history, left, seed)
        return left[sampler.chosen]

    return ask


def flat(space: Space) -> dict[str, BaseDistribution]:
    """Return all dimensions in Optuna's words, none of them conditional."""
    return {
        d.name: CategoricalDistribution((*d.options, INACTIVE))
        if isinstance(d, Choice) and d.when
        else distribution(d)
        for d in space.dimensions
    }


def flat_values(space: Space, config: Config) -> dict[str, Value]:
    """Return a value for every dimension, active or not."""
    return {
        d.name: config[d.name]
        if d.name in config
        else (INACTIVE if isinstance(d, Choice) else d.decode(0.5))
        for d in space.dimensions
    }


def stock_botorch(landscape: Landscape, *, is_told: bool = True) -> Sampler:
    """Return BoTorch's mixed Gaussian process with its noisy expected improvement.

    Fitted anew for each pick; inactive dimensions are filled in as in `optuna_gp`.

    Args:
        landscape: What was recorded.
        is_told: Whether the squared standard errors are its known noise; else it
            infers a common one, as by default, and takes several times as long.
    """
    space = landscape.space
    options = [i for i, d in enumerate(space.dimensions) if isinstance(d, Choice)]

    def ask(history: History, left: Sequence[Config], seed: int) -> Config:
        from botorch.acquisition.logei import qLogNoisyExpectedImprovement
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import MixedSingleTaskGP
        from gpytorch.mlls import ExactMarginalLogLikelihood

        torch.manual_seed(seed + 1000 * len(history))
        done = [(config, outcome) for config, outcome in history if outcome.is_done]
        rows = torch.from_numpy(filled(space, [config for config, _ in done]))
        told = [[o.mean, o.standard_error] for _, o in done]
        means, errors = torch.tensor(told, dtype=torch.float64).split(1, dim=1)
        deviation = means.std()
        model = MixedSingleTaskGP(
            rows,
            (means - means.mean()) / deviation,
            options,
            (errors / deviation) ** 2 if is_told else None,
        )
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        acquisition = qLogNoisyExpectedImprovement(model, rows, prune_baseline=True)
        candidates = torch.from_numpy(filled(space, left)).unsqueeze(-2)
        with torch.no_grad():
            return left[int(acquisition(candidates).argmax())]

    return ask
