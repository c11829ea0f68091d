"""A BoTorch Gaussian process on Configs: what it is fitted to, and how."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from botorch.exceptions import BotorchError
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from gpytorch.means import Mean
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import NormalPrior
from linear_operator.utils.errors import NanError, NotPSDError
from torch import Tensor

from fewshot_automl.oracle.aims import SCORE, Aims, measured
from fewshot_automl.oracle.encoding import Encoding
from fewshot_automl.oracle.kernel import ConditionalKernel
from fewshot_automl.oracle.scores import (
    Scale,
    Values,
    differ,
    done_scores,
    filled,
    winsorised,
)
from fewshot_automl.outcome import History
from fewshot_automl.space import Config, Space

if TYPE_CHECKING:
    from fewshot_automl.oracle.prior import Prior

FIT_FAILURES = (BotorchError, NotPSDError, NanError, torch.linalg.LinAlgError)
"""What a fit or a posterior raises where the numbers do not allow one."""
NOISE_SHARE = 0.25
"""Of the squared standard errors, that is noise between Configs: all Configs are scored
on the same examples, so that luck with these is common to them and ranks nothing."""
LEAST_NOISE, MOST_NOISE = 1e-3, 1e3
"""Ends of noise variances, in units of the score variance."""
ADVICE_WEIGHT = (1.0, 0.5)
"""Of advice, beforehand: mean and standard deviation, in units of the scores' one."""
MOST_KEPT = 4
"""Fits that are kept: a suggestion and the incumbent ask for the same one."""
_KEPT: dict[object, SingleTaskGP] = {}


class AdvisedMean(Mean):
    """A constant, and the column of advice times a weight that is learnt."""

    def __init__(self, column: int) -> None:
        """Say where the advice stands in a row."""
        super().__init__()
        self.column = column
        self.constant = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        start = torch.full((1,), ADVICE_WEIGHT[0], dtype=torch.float64)
        self.weight = torch.nn.Parameter(start)
        self.register_prior("weight_prior", NormalPrior(*ADVICE_WEIGHT), "weight")

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean at each row before any trial."""
        return self.constant + self.weight * x[..., self.column]


@dataclass(frozen=True, slots=True)
class Rows:
    """Turns Configs of one study into rows of a tensor.

    After the encoded Config stand a column of advice and one for each exact measure.
    """

    encoding: Encoding
    """Of the space."""
    advice: Callable[[Sequence[Config]], Values]
    """What past studies say of Configs, given the history."""
    aims: Aims
    """Has the exact measures."""

    @classmethod
    def of(
        cls, space: Space, history: History, prior: "Prior | None", aims: Aims
    ) -> "Rows":
        """Return what encodes Configs, advice given the history."""
        advice = prior.advice(space, history) if prior else lambda c: np.zeros(len(c))
        return cls(Encoding(space), advice, aims)

    def __call__(self, configs: Sequence[Config]) -> Tensor:
        """Return one row for each Config, all of which must be known."""
        exact = [[f(c) for c in configs] for f in self.aims.exact.values()]
        columns = [self.advice(configs), *np.array(exact).reshape(-1, len(configs))]
        rows = np.column_stack([self.encoding.encode(configs), *columns])
        return torch.from_numpy(rows)

    def column(self, name: str) -> int:
        """Return where an exact measure stands."""
        return self.encoding.layout.width + 1 + list(self.aims.exact).index(name)


@dataclass(frozen=True, slots=True)
class Fitted:
    """Holds a fitted Gaussian process of the score or a measure, more being better."""

    model: SingleTaskGP
    """The process, on the standard scale."""
    scale: Scale
    """What that scale means."""
    means: dict[int, float]
    """Posterior mean of each trial it was fitted to, by place, in natural units."""


def fit(
    name: str,
    rows: Rows,
    history: History,
    aims: Aims,
    *,
    regularise: bool,
    steps: int,
) -> Fitted | None:
    """Return a process of the score or a measure, fitted by marginal likelihood.

    Args:
        name: Of the score or measure.
        rows: Encodes Configs.
        history: Trials so far.
        aims: Say of which measures less is better.
        regularise: Whether scores are regularised.
        steps: Most optimiser steps.

    Returns:
        None where nothing can be learnt: less than two values, or all the same.
    """
    known = {
        i: (measured(name, outcome), np.nan)
        for i, (config, outcome) in enumerate(history)
        if np.isfinite(measured(name, outcome)) and rows.encoding.space.contains(config)
    }
    if name == SCORE:
        scores = done_scores(history, regularise=regularise)
        known = {i: scores[i] for i in known}
    values, errors = np.array(list(known.values())).reshape(-1, 2).T
    if not differ(values):
        return None
    scale = Scale.of(values, is_cost=aims.is_cost(name))
    noise = np.empty(0)  # to be inferred
    if np.isfinite(errors).any():
        # Folds that agree by chance are not free of noise.
        least = float(np.median(errors[np.isfinite(errors)])) / 3
        relative = np.maximum(filled(errors), least) / scale.unit
        noise = np.clip(NOISE_SHARE * relative**2, LEAST_NOISE, MOST_NOISE)
    inputs, targets = rows([history[i][0] for i in known]), winsorised(scale(values))
    data = [part.tobytes() for part in (inputs.numpy(), targets, noise)]
    key = (rows.encoding.layout, steps, *data)
    _KEPT[key] = model = _KEPT.pop(key, None) or _fitted(
        rows.encoding, inputs, targets, noise, steps
    )
    if len(_KEPT) > MOST_KEPT:
        del _KEPT[next(iter(_KEPT))]
    with torch.no_grad():
        means = scale.natural(model.posterior(inputs).mean[:, 0].numpy())
    return Fitted(model, scale, dict(zip(known, means.tolist(), strict=True)))


def _fitted(
    encoding: Encoding, inputs: Tensor, targets: Values, noise: Values, steps: int
) -> SingleTaskGP:
    model = SingleTaskGP(
        inputs,
        torch.from_numpy(targets)[:, None],
        torch.from_numpy(noise)[:, None] if len(noise) else None,
        covar_module=ConditionalKernel(encoding.layout),
        mean_module=AdvisedMean(encoding.layout.width),
        outcome_transform=None,
    )
    fit_gpytorch_mll(
        ExactMarginalLogLikelihood(model.likelihood, model),
        optimizer_kwargs={"options": {"maxiter": steps, "ftol": 1e-6}},
    )
    return model
