"""Every row of the table of replays: how it picks trials, and what it would return.

To add a row, add a line to `ROWS`; nothing else knows the rows.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from typing import Any
from unittest.mock import patch

import numpy as np
import optuna
import torch
from landscape import training_space, trains
from machine import ROOT
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from parts.replay_landscape import Landscape

from fewshot_automl.oracle import (
    GpOracle,
    Past,
    Prior,
    SobolOracle,
    posterior_means,
)
from fewshot_automl.oracle.encoding import Layout
from fewshot_automl.oracle.scores import calm
from fewshot_automl.outcome import History
from fewshot_automl.space import Choice, Config, Dimension, Float, Space, Value

Pick = Callable[[History, Sequence[Config], int], Config]
"""Picks one of the untried Configs (second argument), given a history and a seed."""
Return = Callable[[History, int], int]
"""Says where in a history the model to return stands, given a seed."""
MOST_ASKED = 20
"""Times that TPE is asked again where it wants a cheap Config."""
INACTIVE = "inactive"
"""Option of a conditional Choice that stands for its absence."""


@dataclass(frozen=True)
class Scene:
    """What one replay may be made from."""

    landscape: Landscape
    """Of the task itself, of which only the space may be used."""
    others: tuple[Landscape, ...]
    """Of all other tasks of its modality: past studies."""

    @property
    def prior(self) -> Prior:
        """Return the prior of the other tasks' trials: the task's own is left out."""
        return Prior(studies=tuple(past_of(one) for one in self.others))

    @property
    def wrong_prior(self) -> Prior:
        """Return a prior that takes the worst of other tasks for the best."""
        return Prior(
            studies=tuple(
                replace(study, scores=tuple(-score for score in study.scores))
                for study in self.prior.studies
            )
        )


@cache
def past_of(landscape: Landscape) -> Past:
    """Return a landscape, distilled as a past study."""
    history = [(trial.config, trial.outcome) for trial in landscape.trials.values()]
    return Past.of(
        landscape.name, landscape.space, history, kind=landscape.facts.modality
    )


@dataclass(frozen=True)
class Row:
    """One way to search: how it picks, and by which rule it chooses in the end."""

    pick: Pick
    mean: Return | None
    """By posterior mean; None where the best score is returned."""
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    """What both run within."""


def ours(
    scene: Scene,
    *,
    prior: Prior | None = None,
    regularise: bool = True,
    shown: Callable[[Space], Space] = lambda space: space,
    around: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Row:
    """Return our oracle as a study has it, or with one thing changed."""
    prior = scene.prior if prior is None else prior
    space = shown(scene.landscape.space)
    oracle = GpOracle(prior=prior, regularise_scores=regularise)

    def pick(history: History, left: Sequence[Config], seed: int) -> Config:
        with calm(seed):
            from fewshot_automl.oracle.acquisition import Search

            search = Search(space, history, oracle, seed)
            return search.best(left, search.gains(left), 1)[0]

    def mean(history: History, seed: int) -> int:
        means = posterior_means(space, history, seed, prior, regularise=regularise)
        return max(means, key=lambda i: (means[i], history[i][1].mean, -i))

    return Row(pick, mean, around)


@contextmanager
def flat() -> Iterator[None]:
    """Let every dimension count always; inactive numbers stand at 0.5."""
    with calm(0):
        from fewshot_automl.oracle.kernel import ConditionalKernel

    def one_group(layout: Layout) -> Any:
        numbers, options = len(layout.continuous), len(layout.categorical)
        return ConditionalKernel(
            replace(
                layout, continuous=(0,) * numbers, categorical=(0,) * options, groups=1
            )
        )

    with other_kernel(one_group):
        yield


@contextmanager
def other_kernel(made: Callable[[Layout], Any]) -> Iterator[None]:
    """Let our oracle's process have another kernel; fits that are kept are no good."""
    with calm(0):
        from fewshot_automl.oracle import model

    model._fitted.cache_clear()
    with patch.object(model, "ConditionalKernel", made):
        yield
    model._fitted.cache_clear()


def without_descriptors(space: Space) -> Space:
    """Return a space whose options have names only."""
    return Space(
        tuple(
            replace(d, descriptors=None) if isinstance(d, Choice) else d
            for d in space.dimensions
        )
    )


def luckiest(history: History, seed: int = 0) -> int:
    """Return where the highest raw score stands, the first of equal ones."""
    done = [i for i, (_, outcome) in enumerate(history) if outcome.is_done]
    return max(done, key=lambda i: history[i][1].mean)


def at_random(history: History, left: Sequence[Config], seed: int) -> Config:
    """Pick any."""
    generator = np.random.default_rng([seed, len(history)])
    return left[int(generator.integers(len(left)))]


def sobol(scene: Scene) -> Row:
    """Return Sobol points, snapped to the pool, and our choice in the end."""
    training = training_space(scene.landscape.space)
    blind = ours(scene, prior=Prior())

    def pick(history: History, left: Sequence[Config], seed: int) -> Config:
        (config,) = SobolOracle().suggest(training, history, 1, seed)
        return nearest(scene.landscape, config, left)

    return Row(pick, blind.mean)


def nearest(landscape: Landscape, wanted: Config, left: Sequence[Config]) -> Config:
    """Return the Config of a pool that is most like another.

    The mean squared difference over the columns that count on either side decides.
    """
    encoding = landscape.encoding
    rows, row = encoding.encode(left), encoding.encode([wanted])
    layout = encoding.layout
    flags = slice(len(layout.continuous) + len(layout.categorical), layout.width)
    numbers, options = len(layout.continuous), flags.start
    on = [
        np.hstack([np.ones((len(side), 1)), side[:, flags]]) > 0 for side in (rows, row)
    ]
    group = np.array([*layout.continuous, *layout.categorical])
    either, both = on[0][:, group] | on[1][:, group], on[0][:, group] & on[1][:, group]
    gaps = np.hstack(
        [
            np.square(rows[:, :numbers] - row[:, :numbers]),
            rows[:, numbers:options] != row[:, numbers:options],
        ]
    )
    total = np.where(both, gaps, either).sum(axis=1)
    return left[int((total / either.sum(axis=1)).argmin())]


def tpe(scene: Scene) -> Row:
    """Return Optuna's TPE, multivariate and with groups for the conditional parts.

    What it asks for is snapped to the nearest Config of the pool, and it gets that
    one. Where it asks for a cheap Config, which all were tried, it is asked again.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = scene.landscape.space
    distributions = {d.name: distribution(d) for d in space.dimensions}

    def pick(history: History, left: Sequence[Config], seed: int) -> Config:
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
            if trains(wanted):
                break
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return nearest(scene.landscape, wanted, left)

    return Row(pick, None)


def asked_values(space: Space, trial: optuna.Trial) -> dict[str, Value]:
    """Return what a trial of Optuna suggests for the active dimensions."""
    values: dict[str, Value] = {}
    for d in space.dimensions:
        if not space.is_active(d, values):
            continue
        if isinstance(d, Choice):
            values[d.name] = trial.suggest_categorical(d.name, d.options)
        else:
            is_float = isinstance(d, Float)
            ask = trial.suggest_float if is_float else trial.suggest_int
            values[d.name] = ask(d.name, d.low, d.high, log=d.log)
    return values


def distribution(dimension: Dimension) -> BaseDistribution:
    """Return a dimension in Optuna's words."""
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.options)
    kind = FloatDistribution if isinstance(dimension, Float) else IntDistribution
    return kind(dimension.low, dimension.high, log=dimension.log)


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


def optuna_gp(scene: Scene) -> Row:
    """Return Optuna's GP sampler on the flat space.

    It models only what all trials share, so conditional dimensions are filled in
    where they are not active: numbers by their middle, choices by one more option.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = scene.landscape.space
    distributions = {
        d.name: CategoricalDistribution((*d.options, INACTIVE))
        if isinstance(d, Choice) and d.when
        else distribution(d)
        for d in space.dimensions
    }

    def values(config: Config) -> dict[str, Value]:
        return {
            d.name: config[d.name]
            if d.name in config
            else (INACTIVE if isinstance(d, Choice) else d.decode(0.5))
            for d in space.dimensions
        }

    def pick(history: History, left: Sequence[Config], seed: int) -> Config:
        sampler = PoolGPSampler(list(map(values, left)), seed + 1000 * len(history))
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials(
            [
                optuna.trial.create_trial(
                    params=values(config), distributions=distributions,
                    value=outcome.mean,
                )
                for config, outcome in history
                if outcome.is_done
            ]
        )  # fmt: skip
        study.ask(distributions)  # so that every dimension is sampled
        if sampler.chosen is None:  # too few trials for its surrogate
            return at_random(history, left, seed)
        return left[sampler.chosen]

    return Row(pick, None)


def botorch(scene: Scene) -> Row:
    """Return BoTorch's mixed Gaussian process with its noisy expected improvement.

    Fitted again for each pick to the scores and their squared standard errors; inactive
    dimensions are filled in as in `optuna_gp`.
    """
    space = scene.landscape.space
    options = [i for i, d in enumerate(space.dimensions) if isinstance(d, Choice)]

    def pick(history: History, left: Sequence[Config], seed: int) -> Config:
        with calm(seed + 1000 * len(history)):
            from botorch.acquisition.logei import qLogNoisyExpectedImprovement
            from botorch.fit import fit_gpytorch_mll
            from botorch.models import MixedSingleTaskGP
            from gpytorch.mlls import ExactMarginalLogLikelihood

            done = [(config, outcome) for config, outcome in history if outcome.is_done]
            rows = torch.from_numpy(filled(space, [config for config, _ in done]))
            found = [[o.mean, o.standard_error] for _, o in done]
            means, errors = torch.tensor(found, dtype=torch.float64).split(1, dim=1)
            deviation = means.std()
            model = MixedSingleTaskGP(
                rows,
                (means - means.mean()) / deviation,
                options,
                (errors / deviation) ** 2,
            )
            fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
            acquisition = qLogNoisyExpectedImprovement(model, rows, prune_baseline=True)
            candidates = torch.from_numpy(filled(space, left)).unsqueeze(-2)
            with torch.no_grad():
                return left[int(acquisition(candidates).argmax())]

    return Row(pick, None)


def advised_botorch(scene: Scene) -> Row:
    """Return what ours has but for its kernel: BoTorch's default one instead.

    That is an RBF kernel on all columns of the encoding, a column for each option.
    Scores are regularised, past studies advise, the posterior mean chooses.
    """
    return ours(scene, around=default_kernel)


@contextmanager
def default_kernel() -> Iterator[None]:
    """Let our oracle's process have BoTorch's default kernel."""
    with calm(0):
        from botorch.models.utils.gpytorch_modules import (
            get_covar_module_with_dim_scaled_prior,
        )
        from gpytorch.kernels import Kernel

    class Separated(Kernel):  # type: ignore[misc]
        """The default kernel, on rows with a column for each option."""

        def __init__(self, layout: Layout) -> None:
            super().__init__()
            self.layout = layout
            width = len(layout.continuous) + sum(layout.options)
            self.kernel = get_covar_module_with_dim_scaled_prior(ard_num_dims=width)

        def forward(self, x1: Any, x2: Any, diag: bool = False, **_: Any) -> Any:
            left, right = self.separated(x1), self.separated(x2)
            return self.kernel.forward(left, right, diag=diag)

        def separated(self, rows: Any) -> Any:
            first = len(self.layout.continuous)
            named = [
                rows[..., place : place + 1] == torch.arange(count)
                for place, count in enumerate(self.layout.options, first)
            ]
            return torch.cat([rows[..., :first], *(one.to(rows) for one in named)], -1)

    with other_kernel(Separated):
        yield


def filled(space: Space, configs: Sequence[Config]) -> np.ndarray:
    """Return rows of unit-cube numbers and option indices; inactive ones filled in."""
    rows = np.array([space.encode(config) for config in configs])
    for column, dimension in enumerate(space.dimensions):
        if isinstance(dimension, Choice):
            count = len(dimension.options)
            active = np.array([dimension.name in config for config in configs])
            indices = np.floor(rows[:, column] * count)
            rows[:, column] = np.where(active, indices, count)
    return rows


FULL, EVERYTHING, LUCKIEST = "ours", "everything", "raw incumbent"
FAIR = "botorch, advised, posterior mean"
ROWS: dict[str, Callable[[Scene], Row]] = {
    FULL: ours,
    "flat kernel": lambda scene: ours(scene, around=flat),
    "scores alone": lambda scene: ours(scene, regularise=False),
    "no prior": lambda scene: ours(scene, prior=Prior()),
    "wrong prior": lambda scene: ours(scene, prior=scene.wrong_prior),
    "no descriptors": lambda scene: ours(scene, shown=without_descriptors),
    "random": lambda scene: Row(at_random, None),
    "sobol": sobol,
    "tpe": tpe,
    "optuna gp": optuna_gp,
    "botorch": botorch,
    FAIR: advised_botorch,
    EVERYTHING: lambda scene: ours(scene, prior=Prior()),
}
"""All but "raw incumbent", which are ours' studies with the best score returned, and
"everything", which picks nothing and returns the best score of all there are."""
STOCK = ("random", "tpe", "optuna gp", "botorch")
"""Other people's, as they come."""
CHEAP = ("random", "sobol", "tpe", "optuna gp", EVERYTHING)
"""Rows that take little time, and are replayed with all seeds, as ours is."""


def rule_of(row: str) -> str:
    """Return how a row chooses the model to return."""
    return "raw" if row in (*STOCK, EVERYTHING, LUCKIEST) else "smooth"


def version_of(row: str, scene: Scene, share: float) -> str:
    """Return a name for all that a row's curves depend on: code, settings and data."""
    parts = [row, scene.landscape.digest, str(share), code("benchmarks/parts")]
    parts += [version(name) for name in ("optuna", "botorch")]
    if row not in STOCK:
        parts += [code("fewshot_automl/oracle")]
        parts += [one.digest for one in scene.others]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


@cache
def code(folder: str) -> str:
    """Return a hash of the sources that replays run."""
    files = sorted((ROOT / folder).glob("*.py"))
    if folder.startswith("benchmarks"):
        files = [f for f in files if f.stem in ("replay_rows", "replay_study")]
    text = "\n".join(file.read_text("utf-8") for file in files)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
