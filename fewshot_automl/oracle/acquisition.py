"""Where most is expected: BoTorch's acquisitions over a list of candidates."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

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
from torch import Tensor

from fewshot_automl.oracle.failures import log_chances
from fewshot_automl.oracle.model import NOISE_SHARE, Rows, fit
from fewshot_automl.oracle.scores import Scale, Values
from fewshot_automl.outcome import History, Status
from fewshot_automl.space import Config, Space

if TYPE_CHECKING:
    from fewshot_automl.oracle.gp import GpOracle

# Else BoTorch compiles an extension at first use, for a minute if there is a compiler.
logei._load_attempted = True
RIVALS = 64
"""Candidates that are looked at again for each further Config of a batch."""
ALONE_FROM = 20
"""Trials from which every other batch is without advice: wrong advice costs half."""


class Search:
    """Maximises the acquisition over candidates, for one call of `suggest`."""

    def __init__(
        self, space: Space, history: History, oracle: "GpOracle", seed: int, n: int = 1
    ) -> None:
        """Fit what there is to learn, by the settings of an oracle."""
        self.space, self.history, self.seed = space, history, seed
        self.aims = oracle.aims
        self.samples = torch.Size([oracle.samples])
        alone = len(history) >= ALONE_FROM and len(history) // max(n, 1) % 2 == 1
        self.rows = Rows(space, history, None if alone else oracle.prior, self.aims)
        moves, steps = oracle.regularise_scores, oracle.fit_steps
        self.fitted = {
            name: fit(name, self.rows, history, self.aims, moves, steps, NOISE_SHARE)
            for name in self.aims.names
            if name not in self.aims.exact
        }
        known = list(dict.fromkeys(self._known("done")))
        # A bar that nothing allowed can reach would leave only guesses far away.
        self.bars = [config for config in known if self.aims.keeps(config)] or known

    def leaders(self, most: int) -> list[Config]:
        """Return the Configs that were seen to be best, by the first objective."""
        with torch.no_grad():
            model = self._model(self.aims.objectives[0].name)
            means = model.posterior(self.rows(self.bars)).mean.flatten()
        order = means.argsort(descending=True, stable=True)
        return [self.bars[i] for i in order[:most].tolist()]

    def gains(self, pool: Sequence[Config], chosen: Sequence[Config] = ()) -> Values:
        """Return the log improvement that is expected of Configs that may fail.

        Those that are chosen already are pending, as running trials are.
        """
        pending = dict.fromkeys([*self._known("running"), *chosen])
        new = [config for config in pending if config not in set(self.bars)]
        acquisition = self._acquisition(self.rows(new) if new else None)
        with torch.no_grad():
            gains = acquisition(self.rows(pool)[:, None]).numpy()
        encoding = self.rows.encoding
        rows, done = encoding.encode(pool), encoding.encode(self._known("done"))
        failed = encoding.encode(self._known("failed"))
        chances = log_chances(encoding.layout, rows, done, failed, self.seed)
        return np.asarray(np.nan_to_num(gains, nan=-np.inf) + chances)

    def best(self, pool: Sequence[Config], gains: Values, n: int) -> list[Config]:
        """Return up to `n` of a pool with these gains, each given those before it."""
        # What others gain hardly ever grows by what is chosen: the best suffice.
        order = np.argsort(-gains, kind="stable")[: max(RIVALS, n)]
        left, chosen, gains = [pool[i] for i in order], list[Config](), gains[order]
        while left and len(chosen) < n:
            gains = self.gains(left, chosen) if chosen else gains
            chosen.append(left.pop(int(np.argmax(gains))))
        return chosen

    def _known(self, status: Status) -> list[Config]:
        """Return the Configs of the trials of one status in the space."""
        inside = self.space.contains
        return [c for c, o in self.history if o.status == status and inside(c)]

    def _acquisition(self, pending: Tensor | None) -> AcquisitionFunction:
        """Return the improvement over what was seen and is under way."""
        bars, count = self.rows(self.bars), len(self.aims.objectives)
        models = [self._model(name) for name in self.aims.names]
        model: Model = models[0] if len(models) == 1 else ModelList(*models)
        with torch.no_grad():
            posterior = model.posterior(bars)
            seen = posterior.mean[..., :count]
        about: dict[str, Any] = {
            "model": model,
            "X_baseline": bars,
            "sampler": get_sampler(posterior, self.samples, seed=self.seed),
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
        """Return a function for each end of a limit that is learnt; below 0 is kept."""
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
