"""Where most is expected: BoTorch's acquisitions over a list of candidates."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.acquisition.multi_objective import logei
from botorch.acquisition.multi_objective.objective import GenericMCMultiOutputObjective
from botorch.acquisition.objective import GenericMCObjective
from botorch.models import GenericDeterministicModel, ModelList
from botorch.models.gpytorch import GPyTorchModel
from botorch.models.model import Model
from botorch.posteriors import GPyTorchPosterior, Posterior
from botorch.sampling.get_sampler import get_sampler
from botorch.utils.multi_objective.hypervolume import infer_reference_point
from botorch.utils.multi_objective.pareto import is_non_dominated
from gpytorch.distributions import MultivariateNormal
from gpytorch.settings import skip_posterior_variances
from linear_operator import to_linear_operator
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


class Joint(GPyTorchModel):
    """The joint posterior of some rows, which inputs name by their places.

    BoTorch asks for each candidate together with all that was seen. So the kernel
    compares what was seen once, and not once for each candidate.
    """

    num_outputs = 1

    def __init__(self, posterior: GPyTorchPosterior) -> None:
        """Hold the means and covariances of all rows."""
        super().__init__()
        self.means = posterior.distribution.mean
        self.covariances = posterior.distribution.covariance_matrix

    def forward(self, places: Tensor) -> MultivariateNormal:
        """Return the posterior of the rows at these places."""
        at = places[..., 0].long()
        covariances = self.covariances[at[..., :, None], at[..., None, :]]
        return MultivariateNormal(self.means[at], to_linear_operator(covariances))


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
        self.known: dict[Status, list[Config]] = defaultdict(list)
        for config, outcome in history:
            if space.contains(config):
                self.known[outcome.status].append(config)
        done, self.chances = self.known["done"], dict[Config, float]()
        # A bar that nothing allowed can reach would leave only guesses far away.
        self.seen = self.bars = [*dict.fromkeys(filter(self.aims.keeps, done))] or done

    def leaders(self, most: int) -> list[Config]:
        """Return the Configs that were seen to be best, by the first objective."""
        with torch.no_grad(), skip_posterior_variances():
            model = self._model(self.aims.objectives[0].name)
            means = model.posterior(self.rows(self.seen)).mean.flatten()
        order = means.argsort(descending=True, stable=True)
        return [self.seen[i] for i in order[:most].tolist()]

    def gains(self, pool: Sequence[Config], chosen: Sequence[Config] = ()) -> Values:
        """Return the log improvement that is expected of Configs that may fail.

        Those that are chosen already are pending, as running trials are.
        """
        pending = dict.fromkeys([*self.known["running"], *chosen])
        new = [config for config in pending if config not in set(self.seen)]
        with torch.no_grad():
            gains = self._log_improvements(pool, new).numpy()
        if unknown := [config for config in pool if config not in self.chances]:
            encoding, known = self.rows.encoding, self.known
            about = (unknown, known["done"], known["failed"])
            rows, done, failed = map(encoding.encode, about)
            chances = log_chances(encoding.layout, rows, done, failed, self.seed)
            self.chances.update(zip(unknown, chances.tolist(), strict=True))
        logs = np.nan_to_num(gains, nan=-np.inf)
        return np.asarray(logs + [self.chances[config] for config in pool])

    def best(self, pool: Sequence[Config], gains: Values, n: int) -> list[Config]:
        """Return up to `n` of a pool with these gains, each given those before it."""
        # What others gain hardly ever grows by what is chosen: the best suffice.
        order = np.argsort(-gains, kind="stable")[: max(RIVALS, n)]
        left, chosen, gains = [pool[i] for i in order], list[Config](), gains[order]
        while left and len(chosen) < n:
            gains = self.gains(left, chosen) if chosen else gains
            chosen.append(left.pop(int(np.argmax(gains))))
        return chosen

    def _log_improvements(self, pool: Sequence[Config], new: list[Config]) -> Tensor:
        """Return that of each Config over what was seen and what is under way."""
        points, count = self.rows([*self.bars, *new, *pool]), len(self.aims.objectives)
        every = torch.arange(len(points))[:, None].double()
        bars, pending, places = torch.split(every, [*map(len, (self.bars, new, pool))])
        models = [_by_place(self._model(n).posterior(points)) for n in self.aims.names]
        model: Model = models[0] if len(models) == 1 else ModelList(*models)
        posterior = model.posterior(bars)
        about: dict[str, Any] = {
            "model": model,
            "X_baseline": bars,
            "sampler": get_sampler(posterior, self.samples, seed=self.seed),
            "constraints": self._constraints() or None,
            "X_pending": pending if new else None,
            "prune_baseline": True,
        }
        if count == 1:
            score = GenericMCObjective(lambda Y, X=None: Y[..., 0])
            acquisition = qLogNoisyExpectedImprovement(objective=score, **about)
        else:
            seen = posterior.mean[..., :count]
            acquisition = logei.qLogNoisyExpectedHypervolumeImprovement(
                ref_point=infer_reference_point(seen[is_non_dominated(seen)]),
                objective=GenericMCMultiOutputObjective(
                    lambda Y, X=None: Y[..., :count]
                ),
                **about,
            )
        # BoTorch has left out what can hardly be the best.
        kept = acquisition.X_baseline[:, 0].long().tolist()
        self.bars = [self.bars[i] for i in kept if i < len(self.bars)]
        return acquisition(places[:, None])  # type: ignore[no-any-return]

    def _model(self, name: str) -> Model:
        """Return a model of a score or measure on its standard scale."""
        fitted = self.fitted.get(name)
        if fitted is not None:
            return fitted.model
        if name in self.fitted:  # nothing is known: average everywhere
            return GenericDeterministicModel(lambda X: torch.zeros_like(X[..., :1]))
        exact, column = self.aims.exact[name], self.rows.column(name)
        values = np.array([exact(config) for config in self.seen])
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


def _by_place(posterior: Posterior) -> Model:
    """Return a model of rows whose posterior is known."""
    if isinstance(posterior, GPyTorchPosterior):
        return Joint(posterior)
    return GenericDeterministicModel(lambda X: posterior.mean[X[..., 0].long()])


def _beyond(place: int, sign: float, bound: float) -> Callable[[Tensor], Tensor]:
    return lambda Y: sign * (Y[..., place] - bound)
