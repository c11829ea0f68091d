"""A BoTorch Gaussian process on Configs: what it is fitted to, and how."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from botorch.exceptions import BotorchError
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from gpytorch.means import Mean
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import NormalPrior
from gpytorch.settings import skip_posterior_variances
from linear_operator.utils.errors import NanError, NotPSDError
from torch import Tensor

from fewshot_automl.oracle.aims import SCORE, Aims, measured
from fewshot_automl.oracle.encoding import Encoding, Layout
from fewshot_automl.oracle.kernel import ConditionalKernel
from fewshot_automl.oracle.scores import Scale, differ, done_scores, winsorised
from fewshot_automl.outcome import History
from fewshot_automl.space import Config, Space

if TYPE_CHECKING:
    from fewshot_automl.oracle.prior import Prior

FIT_FAILURES = (BotorchError, NotPSDError, NanError, torch.linalg.LinAlgError)  # type: ignore[attr-defined]
"""What a fit or a posterior raises where the numbers do not allow one."""
NOISE_SHARE = 0.25
"""Of the squared standard errors, that is noise between Configs for a search: all are
scored on the same examples. With less it soon stops to explore."""
MOST_FITTED = 200
"""Trials, evenly by rank, that parameters are fitted to at most; then all are known."""
ADVICE_WEIGHT = (1.0, 0.5)
"""Of advice, beforehand: mean and standard deviation, in units of the scores' one."""


class AdvisedMean(Mean):
    """A constant, and the column of advice times a weight that is learnt."""

    def __init__(self, column: int) -> None:
        """Say where the advice stands in a row."""
        super().__init__()
        self.column = column
        start = torch.tensor([[0.0], [ADVICE_WEIGHT[0]]], dtype=torch.float64)
        self.constant, self.weight = map(torch.nn.Parameter, start)
        self.register_prior("weight_prior", NormalPrior(*ADVICE_WEIGHT), "weight")

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean at each row before any trial."""
        return self.constant + self.weight * x[..., self.column]


class Rows:
    """Turns Configs into rows: encoded, then advice, then each exact measure."""

    def __init__(
        self, space: Space, history: History, prior: "Prior | None", aims: Aims
    ) -> None:
        """Settle what past studies advise, given the history."""
        self.encoding, self.exact = Encoding(space), aims.exact
        self.advice = prior.advice(space, history) if prior else None
        self.made: dict[Config, np.ndarray] = {}

    def __call__(self, configs: Sequence[Config]) -> Tensor:
        """Return one row for each Config, all of which must be known."""
        if new := [config for config in configs if config not in self.made]:
            advice = self.advice(new) if self.advice else np.zeros(len(new))
            exact = [np.array([f(c) for c in new]) for f in self.exact.values()]
            rows = np.column_stack([self.encoding.encode(new), advice, *exact])
            self.made.update(zip(new, rows, strict=True))
        return torch.from_numpy(np.array([self.made[config] for config in configs]))

    def column(self, name: str) -> int:
        """Return where an exact measure stands."""
        return self.encoding.layout.width + 1 + list(self.exact).index(name)


@dataclass(frozen=True, slots=True)
class Fitted:
    """Holds a fitted Gaussian process of the score or a measure, more being better."""

    model: SingleTaskGP
    """The process, on the standard scale."""
    scale: Scale
    """What that scale means."""
    means: dict[int, float]
    """Posterior mean of each trial it was fitted to, by place; of scores in their
    own units."""


def fit(
    name: str,
    rows: Rows,
    history: History,
    aims: Aims,
    regularise: bool,
    steps: int,
    share: float | None,
) -> Fitted | None:
    """Return a process, its noise inferred without a share; None if all is the same."""
    known = {
        i: (measured(name, outcome), np.nan)
        for i, (config, outcome) in enumerate(history)
        if np.isfinite(measured(name, outcome)) and rows.encoding.space.contains(config)
    }
    if name == SCORE:
        scores = done_scores(history, regularise)
        known = {i: scores[i] for i in known}
    values, errors = np.array(list(known.values())).reshape(-1, 2).T
    if not differ(values):
        return None
    scale = Scale.of(values, is_cost=aims.is_cost(name))
    # Folds that agree by chance are not free of noise.
    errors = np.maximum(errors, np.median(errors) / 3) / scale.unit
    noise = np.clip((share or np.nan) * errors**2, 1e-3, 1e3)
    inputs, targets = rows([history[i][0] for i in known]), winsorised(scale(values))
    data = (part.tobytes() for part in (inputs.numpy(), targets, noise))
    model = _fitted(rows.encoding.layout, *data, steps)
    with torch.no_grad(), skip_posterior_variances():
        means = scale.centre + scale.unit * model.posterior(inputs).mean[:, 0].numpy()
    return Fitted(model, scale, dict(zip(known, means.tolist(), strict=True)))


@lru_cache(maxsize=4)
def _fitted(
    layout: Layout, inputs: bytes, targets: bytes, noise: bytes, steps: int
) -> SingleTaskGP:
    """Return a process fitted to rows that begin as the layout says."""
    table, values, noises = (
        torch.from_numpy(np.frombuffer(part).copy())[:, None]
        for part in (inputs, targets, noise)
    )
    count = len(values)
    table, ranked = table.reshape(count, -1), values[:, 0].argsort(stable=True)

    def process(at: Tensor) -> SingleTaskGP:
        return SingleTaskGP(
            table[at],
            values[at],
            None if noises.isnan().any() else noises[at],
            covar_module=ConditionalKernel(layout),
            mean_module=AdvisedMean(layout.width),
            outcome_transform=None,
        )

    few = ranked[torch.linspace(0, count - 1, min(count, MOST_FITTED)).long()]
    model, whole = process(few.sort().values), process(torch.arange(count))
    fit_gpytorch_mll(
        ExactMarginalLogLikelihood(model.likelihood, model),
        optimizer_kwargs={"options": {"maxiter": steps, "ftol": 1e-6}},
    )
    whole.load_state_dict(model.state_dict())
    return whole.eval()
