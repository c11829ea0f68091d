"""A BoTorch Gaussian process on Configs: what it is fitted to, and how."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from botorch.exceptions import BotorchError, BotorchWarning
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.utils.sampling import manual_seed
from gpytorch.means import Mean
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import NormalPrior
from jaxtyping import Float64
from linear_operator.utils.errors import NanError, NotPSDError
from linear_operator.utils.warnings import NumericalWarning
from torch import Tensor

from fewshot_automl.oracle.aims import SCORE, Aims, measured
from fewshot_automl.oracle.encoding import Encoding
from fewshot_automl.oracle.kernel import ConditionalKernel
from fewshot_automl.oracle.prior import Prior
from fewshot_automl.oracle.scores import (
    MOST_NOISE,
    Scale,
    Values,
    differ,
    done_scores,
    filled,
    winsorised,
)
from fewshot_automl.outcome import History
from fewshot_automl.space import Config, Space

FIT_FAILURES = (BotorchError, NotPSDError, NanError, torch.linalg.LinAlgError)
"""What a fit or a posterior raises where the numbers do not allow one."""
NOISE_SHARE = 0.25
"""Of the squared standard errors, that is noise between Configs: all Configs are scored
on the same examples, so that luck with these is common to them and ranks nothing."""
LEAST_NOISE = 1e-3
"""Least noise variance, in units of the score variance."""
ADVICE_WEIGHT = (1.0, 0.5)
"""Of advice, beforehand: mean and standard deviation, in units of the scores' one."""


@contextmanager
def calm(seed: int) -> Iterator[None]:
    """Make torch's draws repeatable and keep expected warnings from the user.

    BoTorch warns of a fit that stops at its last step, and of jitter added to a
    covariance; both are harmless here. The global generator is left as it was.
    """
    with warnings.catch_warnings(), manual_seed(seed):
        for category in (BotorchWarning, NumericalWarning):
            warnings.simplefilter("ignore", category)
        yield


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


Advice = Callable[[Sequence[Config]], Values]


@dataclass(frozen=True, slots=True)
class Rows:
    """Turns Configs of one study into rows of a tensor.

    After the encoded Config stand a column of advice and one for each exact measure.
    """

    encoding: Encoding
    """Of the space."""
    advice: Advice
    """What past studies say of Configs, given the history."""
    aims: Aims
    """Has the exact measures."""

    @classmethod
    def of(cls, space: Space, history: History, prior: Prior, aims: Aims) -> "Rows":
        """Return what encodes Configs, advice given the history."""
        return cls(Encoding(space), prior.advice(space, history), aims)

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
class Surrogate:
    """Holds a fitted Gaussian process of one score or measure, more being better."""

    model: SingleTaskGP
    """The process, on the standard scale."""
    scale: Scale
    """What that scale means."""
    rows: Rows
    """Encodes Configs as the process knows them."""
    places: tuple[int, ...]
    """Of the trials it was fitted to, in the history."""

    def means(self, configs: Sequence[Config]) -> Float64[np.ndarray, " configs"]:
        """Return the posterior means, in natural units."""
        with torch.no_grad():
            found = self.model.posterior(self.rows(configs)).mean[:, 0]
        return self.scale.natural(found.numpy())


def fit_score(
    rows: Rows, history: History, *, regularise: bool, steps: int
) -> Surrogate | None:
    """Return a process of the score, None where there is nothing to learn."""
    known = {
        i: pair
        for i, pair in done_scores(history, regularise=regularise).items()
        if rows.encoding.knows(history[i][0])
    }
    scores, errors = np.array(list(known.values())).reshape(-1, 2).T
    if not differ(scores):
        return None
    scale = Scale.of(scores, is_cost=False)
    noise = None
    if np.isfinite(errors).any():
        # Folds that agree by chance are not free of noise.
        least = float(np.median(errors[np.isfinite(errors)])) / 3
        relative = np.clip(filled(errors), least, MOST_NOISE * scale.unit) / scale.unit
        noise = np.maximum(NOISE_SHARE * relative**2, LEAST_NOISE)
    return _fitted(rows, history, list(known), scores, scale, noise, steps)


def fit_measure(
    name: str, rows: Rows, history: History, aims: Aims, *, steps: int
) -> Surrogate | None:
    """Return a process of a measure, None where there is nothing to learn."""
    values = {
        i: value
        for i, (config, outcome) in enumerate(history)
        if np.isfinite(value := measured(name, outcome)) and rows.encoding.knows(config)
    }
    numbers = np.array(list(values.values()), dtype=np.float64)
    if not differ(numbers):
        return None
    scale = Scale.of(numbers, is_cost=aims.is_cost(name))
    return _fitted(rows, history, list(values), numbers, scale, None, steps)


def fit(
    name: str,
    rows: Rows,
    history: History,
    aims: Aims,
    *,
    regularise: bool,
    steps: int,
) -> Surrogate | None:
    """Return a process of the score or a measure, None without anything to learn."""
    if name == SCORE:
        return fit_score(rows, history, regularise=regularise, steps=steps)
    return fit_measure(name, rows, history, aims, steps=steps)


def _fitted(
    rows: Rows,
    history: History,
    places: list[int],
    numbers: Values,
    scale: Scale,
    noise: Values | None,
    steps: int,
) -> Surrogate:
    """Return a process fitted by marginal likelihood; noise is inferred if None.

    The last fits are kept: a suggestion and the incumbent ask for the same one.
    """
    inputs = rows([history[i][0] for i in places])
    targets = winsorised(scale(numbers))
    parts = [inputs.numpy(), targets, np.empty(0) if noise is None else noise]
    key = (rows.encoding.layout, steps, *(part.tobytes() for part in parts))
    model = _KEPT.pop(key, None)
    if model is None:
        model = SingleTaskGP(
            inputs,
            torch.from_numpy(targets)[:, None],
            None if noise is None else torch.from_numpy(noise)[:, None],
            covar_module=ConditionalKernel(rows.encoding.layout),
            mean_module=AdvisedMean(rows.encoding.layout.width),
            outcome_transform=None,
        )
        fit_gpytorch_mll(
            ExactMarginalLogLikelihood(model.likelihood, model),
            optimizer_kwargs={"options": {"maxiter": steps, "ftol": 1e-6}},
        )
    _KEPT[key] = model
    while len(_KEPT) > MOST_KEPT:
        del _KEPT[next(iter(_KEPT))]
    return Surrogate(model, scale, rows, tuple(places))


MOST_KEPT = 4
_KEPT: dict[object, SingleTaskGP] = {}
