"""Where most is expected: BoTorch's acquisitions over a list of candidates."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from botorch.acquisition import AcquisitionFunction
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.acquisition.multi_objective.logei import (
    qLogNoisyExpectedHypervolumeImprovement,
)
from botorch.acquisition.multi_objective.objective import (
    GenericMCMultiOutputObjective,
)
from botorch.acquisition.objective import GenericMCObjective
from botorch.models import GenericDeterministicModel, ModelList
from botorch.models.model import Model
from botorch.sampling.get_sampler import get_sampler
from botorch.utils.multi_objective.hypervolume import infer_reference_point
from botorch.utils.multi_objective.pareto import is_non_dominated
from jaxtyping import Float64
from torch import Tensor

from fewshot_automl.oracle.aims import Aims
from fewshot_automl.oracle.failures import log_chances, success_chances
from fewshot_automl.oracle.model import Rows, Surrogate, fit
from fewshot_automl.oracle.prior import Prior
from fewshot_automl.oracle.scores import Scale
from fewshot_automl.outcome import History, Status
from fewshot_automl.space import Config, Space

AT_ONCE = 256
"""Candidates whose posteriors are worked out together."""
Gains = Float64[np.ndarray, " candidates"]


class Search:
    """Maximises the acquisition over candidates, for one call of `suggest`."""

    def __init__(
        self,
        space: Space,
        history: History,
        prior: Prior,
        aims: Aims,
        *,
        regularise: bool,
        samples: int,
        steps: int,
        seed: int,
    ) -> None:
        """Fit what there is to learn.

        Args:
            space: Where to search.
            history: Trials so far.
            prior: What past studies advise.
            aims: What to improve and within which limits.
            regularise: Whether scores are regularised.
            samples: Monte Carlo samples of the acquisition.
            steps: Most optimiser steps of a fit.
            seed: Makes the samples repeatable.
        """
        self.history, self.aims, self.seed, self.samples = history, aims, seed, samples
        self.rows = Rows.of(space, history, prior, aims)
        self.surrogates = {
            name: fit(
                name, self.rows, history, aims, regularise=regularise, steps=steps
            )
            for name in aims.names
            if name not in aims.exact
        }
        done = [config for config in self._known("done") if space.contains(config)]
        within = [config for config in done if aims.keeps(config)]
        # A bar that nothing allowed can reach would leave only guesses far away.
        self.bars = list(dict.fromkeys(within or done or self._known("done")))

    def leaders(self, most: int) -> list[Config]:
        """Return the best Configs that were seen, by each objective in turn."""
        ranked = []
        for objective in self.aims.objectives:
            values = self._judged(objective.name, self.bars)
            ranked.append([self.bars[i] for i in np.argsort(-values, kind="stable")])
        in_turn = (config for group in zip(*ranked, strict=True) for config in group)
        return list(dict.fromkeys(in_turn))[:most]

    def gains(self, pool: Sequence[Config], chosen: Sequence[Config] = ()) -> Gains:
        """Return the log improvement that each of some Configs is expected to bring.

        Args:
            pool: The Configs.
            chosen: Others that are about to be tried.
        """
        bars = set(self.bars)
        pending = [*self._known("running"), *chosen]
        pending = list(dict.fromkeys(c for c in pending if c not in bars))
        acquisition = self._acquisition(self.rows(pending) if pending else None)
        rows = self.rows(pool)
        with torch.no_grad():
            parts = [acquisition(part[:, None]) for part in rows.split(AT_ONCE)]
        gains = torch.cat(parts).numpy()
        return np.asarray(np.nan_to_num(gains, nan=-math.inf) + self._bonus(pool))

    def best(self, pool: Sequence[Config], gains: Gains, n: int) -> list[Config]:
        """Return up to `n` of a pool, each the best given those before it.

        Args:
            pool: The Configs.
            gains: Of each, while none is chosen.
            n: How many.
        """
        left, chosen = list(pool), list[Config]()
        while left and len(chosen) < n:
            if chosen:
                gains = self.gains(left, chosen)
            chosen.append(left.pop(int(np.argmax(gains))))
        return chosen

    def _known(self, status: Status) -> list[Config]:
        """Return the Configs of the trials of one status that can be encoded."""
        return [
            config
            for config, outcome in self.history
            if outcome.status == status and self.rows.encoding.knows(config)
        ]

    def _bonus(self, pool: Sequence[Config]) -> Gains:
        """Return what is added to each log improvement: that of finishing at all."""
        encoding = self.rows.encoding
        return log_chances(
            success_chances(
                encoding.layout,
                encoding.encode(pool),
                encoding.encode(self._known("done")),
                encoding.encode(self._known("failed")),
                self.seed,
            )
        )

    def _acquisition(self, pending: Tensor | None) -> AcquisitionFunction:
        """Return the improvement over what was seen and is under way."""
        names, bars = self.aims.names, self.rows(self.bars)
        models = [self._model(name) for name in names]
        model: Model = models[0] if len(models) == 1 else ModelList(*models)
        with torch.no_grad():
            posterior = model.posterior(bars)
        sampler = get_sampler(posterior, torch.Size([self.samples]), seed=self.seed)
        constraints = self._constraints() or None
        count = len(self.aims.objectives)
        if count == 1:
            return qLogNoisyExpectedImprovement(
                model,
                bars,
                sampler=sampler,
                objective=GenericMCObjective(lambda Y, X=None: Y[..., 0]),
                constraints=constraints,
                X_pending=pending,
                prune_baseline=True,
            )
        seen = posterior.mean[..., :count]
        return qLogNoisyExpectedHypervolumeImprovement(
            model,
            infer_reference_point(seen[is_non_dominated(seen)]),
            bars,
            sampler=sampler,
            objective=GenericMCMultiOutputObjective(lambda Y, X=None: Y[..., :count]),
            constraints=constraints,
            X_pending=pending,
            prune_baseline=True,
        )

    def _model(self, name: str) -> Model:
        """Return a model of a score or measure on its standard scale."""
        surrogate = self.surrogates.get(name)
        if surrogate is not None:
            return surrogate.model
        if name not in self.aims.exact:  # nothing is known: average everywhere
            return GenericDeterministicModel(lambda X: torch.zeros_like(X[..., :1]))
        column, scale = self.rows.column(name), self._scale(name)

        def known(X: Tensor) -> Tensor:
            values = scale(X[..., column].detach().numpy())
            return torch.from_numpy(values)[..., None]

        return GenericDeterministicModel(known)

    def _scale(self, name: str) -> Scale:
        """Return what the standard scale of a score or measure means."""
        surrogate: Surrogate | None = self.surrogates.get(name)
        if surrogate is not None:
            return surrogate.scale
        exact = self.aims.exact.get(name)
        values = [0.0] if exact is None else [exact(config) for config in self.bars]
        return Scale.of(np.array(values), is_cost=self.aims.is_cost(name))

    def _judged(self, name: str, configs: Sequence[Config]) -> Gains:
        """Return a score or measure at Configs, on its standard scale."""
        with torch.no_grad():
            mean = self._model(name).posterior(self.rows(configs)[:, None]).mean
        return np.asarray(mean.reshape(-1).numpy())

    def _constraints(self) -> list[Callable[[Tensor], Tensor]]:
        """Return one function for each end of a limit; below 0 is allowed.

        Exact measures are left out: candidates are chosen by them beforehand.
        """
        found = []
        for limit in self.aims.limits:
            if self.surrogates.get(limit.name) is None:
                continue
            scale, place = self._scale(limit.name), self.aims.names.index(limit.name)
            for end, sign in ((limit.least, -1.0), (limit.most, 1.0)):
                if end is not None:
                    bound = float(scale(np.array([end]))[0])
                    found.append(_beyond(place, sign * scale.sign, bound))
        return found


def _beyond(place: int, sign: float, bound: float) -> Callable[[Tensor], Tensor]:
    return lambda Y: sign * (Y[..., place] - bound)
