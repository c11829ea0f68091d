"""Where most is expected: BoTorch's acquisitions over a list of candidates."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from botorch.acquisition import AcquisitionFunction
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.acquisition.multi_objective import logei
from botorch.acquisition.multi_objective.objective import GenericMCMultiOutputObjective
from botorch.acquisition.objective import GenericMCObjective
from botorch.models import GenericDeterministicModel, ModelList
from botorch.models.model import Model
from botorch.sampling.get_sampler import get_sampler
from botorch.utils.multi_objective.hypervolume import infer_reference_point
from botorch.utils.multi_objective.pareto import is_non_dominated
from jaxtyping import Float64
from torch import Tensor

from fewshot_automl.oracle.aims import Aims
from fewshot_automl.oracle.failures import log_chances
from fewshot_automl.oracle.model import Rows, fit
from fewshot_automl.oracle.scores import Scale
from fewshot_automl.outcome import History, Status
from fewshot_automl.space import Config, Space

if TYPE_CHECKING:
    from fewshot_automl.oracle.prior import Prior

# Else BoTorch compiles an extension at first use, for a minute if there is a compiler.
logei._load_attempted = True

AT_ONCE = 256
"""Candidates whose posteriors are worked out together."""
Gains = Float64[np.ndarray, " _"]


class Search:
    """Maximises the acquisition over candidates, for one call of `suggest`."""

    def __init__(
        self,
        space: Space,
        history: History,
        prior: "Prior | None",
        aims: Aims,
        *,
        regularise: bool,
        samples: int,
        steps: int,
        seed: int,
    ) -> None:
        """Fit what there is to learn; see `GpOracle` for the settings."""
        self.history, self.aims, self.seed, self.samples = history, aims, seed, samples
        self.rows = Rows.of(space, history, prior, aims)
        learnt = [name for name in aims.names if name not in aims.exact]
        self.fitted = {
            name: fit(
                name, self.rows, history, aims, regularise=regularise, steps=steps
            )
            for name in learnt
        }
        known = list(dict.fromkeys(self._known("done")))
        # A bar that nothing allowed can reach would leave only guesses far away.
        self.bars = [config for config in known if aims.keeps(config)] or known

    def leaders(self, most: int) -> list[Config]:
        """Return the best Configs that were seen, by each objective in turn."""
        ranked = []
        for objective in self.aims.objectives:
            with torch.no_grad():
                posterior = self._model(objective.name).posterior(self.rows(self.bars))
            order = posterior.mean.flatten().argsort(descending=True, stable=True)
            ranked.append([self.bars[i] for i in order.tolist()])
        in_turn = (config for group in zip(*ranked, strict=True) for config in group)
        return list(dict.fromkeys(in_turn))[:most]

    def gains(self, pool: Sequence[Config], chosen: Sequence[Config] = ()) -> Gains:
        """Return the log improvement that is expected of Configs that may fail.

        Args:
            pool: The Configs.
            chosen: Others that are about to be tried.
        """
        pending = dict.fromkeys([*self._known("running"), *chosen])
        new = [config for config in pending if config not in set(self.bars)]
        acquisition = self._acquisition(self.rows(new) if new else None)
        with torch.no_grad():
            parts = self.rows(pool).split(AT_ONCE)
            gains = torch.cat([acquisition(part[:, None]) for part in parts]).numpy()
        encoding = self.rows.encoding
        trials = (encoding.encode(self._known(end)) for end in ("done", "failed"))
        chances = log_chances(
            encoding.layout, encoding.encode(pool), *trials, self.seed
        )
        return np.asarray(np.nan_to_num(gains, nan=-math.inf) + chances)

    def best(self, pool: Sequence[Config], gains: Gains, n: int) -> list[Config]:
        """Return up to `n` of a pool, each the best given those before it.

        Args:
            pool: The Configs.
            gains: Of each, while none is chosen.
            n: How many.
        """
        left, chosen = list(pool), list[Config]()
        while left and len(chosen) < n:
            gains = self.gains(left, chosen) if chosen else gains
            chosen.append(left.pop(int(np.argmax(gains))))
        return chosen

    def _known(self, status: Status) -> list[Config]:
        """Return the Configs of the trials of one status in the space."""
        inside = self.rows.encoding.space.contains
        return [c for c, o in self.history if o.status == status and inside(c)]

    def _acquisition(self, pending: Tensor | None) -> AcquisitionFunction:
        """Return the improvement over what was seen and is under way."""
        bars = self.rows(self.bars)
        models = [self._model(name) for name in self.aims.names]
        model: Model = models[0] if len(models) == 1 else ModelList(*models)
        with torch.no_grad():
            posterior = model.posterior(bars)
            count = len(self.aims.objectives)
            seen = posterior.mean[..., :count]
        about = {
            "model": model,
            "X_baseline": bars,
            "sampler": get_sampler(
                posterior, torch.Size([self.samples]), seed=self.seed
            ),
            "constraints": self._constraints() or None,
            "X_pending": pending,
            "prune_baseline": True,
        }
        if count == 1:
            score = GenericMCObjective(lambda Y, X=None: Y[..., 0])
            return qLogNoisyExpectedImprovement(objective=score, **about)
        return logei.qLogNoisyExpectedHypervolumeImprovement(
            ref_point=infer_reference_point(seen[is_non_dominated(seen)]),
            objective=GenericMCMultiOutputObjective(lambda Y, X=None: Y[..., :count]),
            **about,
        )

    def _model(self, name: str) -> Model:
        """Return a model of a score or measure on its standard scale."""
        fitted = self.fitted.get(name)
        if fitted is not None:
            return fitted.model
        if name in self.fitted:  # nothing is known: average everywhere
            return GenericDeterministicModel(lambda X: torch.zeros_like(X[..., :1]))
        exact, column = self.aims.exact[name], self.rows.column(name)
        values = np.array([exact(config) for config in self.bars])
        scale = Scale.of(values, is_cost=self.aims.is_cost(name))
        return GenericDeterministicModel(
            lambda X: torch.from_numpy(scale(X[..., column].numpy()))[..., None]
        )

    def _constraints(self) -> list[Callable[[Tensor], Tensor]]:
        """Return one function for each end of a limit; below 0 is allowed.

        Exact measures are left out: candidates are chosen by them beforehand.
        """
        found = []
        for limit in self.aims.limits:
            fitted = self.fitted.get(limit.name)
            place = self.aims.names.index(limit.name)
            for end, sign in ((limit.least, -1.0), (limit.most, 1.0)):
                if fitted is not None and end is not None:
                    bound = float(fitted.scale(np.array([end]))[0])
                    found.append(_beyond(place, sign * fitted.scale.sign, bound))
        return found


def _beyond(place: int, sign: float, bound: float) -> Callable[[Tensor], Tensor]:
    return lambda Y: sign * (Y[..., place] - bound)
