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
from fewshot_automl.oracle.scores import calm, done_scores, winsorised
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
        from fewshot_automl.oracle import model

    conditional = model.ConditionalKernel

    def one_group(layout: Layout) -> Any:
        numbers, options = len(layout.continuous), len(layout.categorical)
        return conditional(
            replace(
                layout, continuous=(0,) * numbers, categorical=(0,) * options, groups=1
            )
        )

    model._fitted.cache_clear()
    with patch.object(model, "ConditionalKernel", one_group):
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
    dear = training_space(scene.landscape.space)
    blind = ours(scene, prior=Prior())

    def pick(history: History, left: Sequence[Config], seed: int) -> Config:
        (config,) = SobolOracle().suggest(dear, history, 1, seed)
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

    What it asks for is snapped to the nearest Config of the pool, and it is told that
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


def botorch(scene: Scene, *, is_advised: bool = False) -> Row:
    """Return BoTorch's mixed Gaussian process with its noisy expected improvement.

    Fitted anew for each pick to the scores and their squared standard errors; inactive
    dimensions are filled in as in `optuna_gp`. As it comes, the best score is returned.

    Args:
        scene: The task among others.
        is_advised: Whether it has what ours has beside its kernel: regularised scores,
            past studies' advice as the mean, a share of the noise, and the choice by
            posterior mean.
    """
    from fewshot_automl.oracle.model import NOISE_SHARE

    space = scene.landscape.space
    options = [i for i, d in enumerate(space.dimensions) if isinstance(d, Choice)]

    def fitted(history: History) -> tuple[Any, list[int], Callable[..., np.ndarray]]:
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import MixedSingleTaskGP
        from gpytorch.mlls import ExactMarginalLogLikelihood

        scores = done_scores(history, regularise=is_advised)
        means, errors = np.array(list(scores.values())).T
        rows = filled(space, [history[i][0] for i in scores])
        said = scene.prior.advice(space, history) if is_advised else nothing
        fenced = winsorised(means) if is_advised else means
        unit, share = fenced.std(ddof=1), NOISE_SHARE if is_advised else 1.0
        standard = (fenced - fenced.mean()) / unit
        rest = standard - said([history[i][0] for i in scores])
        noise = np.maximum(share * (errors / unit) ** 2, 1e-6)
        model = MixedSingleTaskGP(
            torch.from_numpy(rows),
            torch.from_numpy(rest)[:, None],
            options,
            torch.from_numpy(noise)[:, None],
            outcome_transform=None,
        )
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        return model, list(scores), said

    def pick(history: History, left: Sequence[Config], seed: int) -> Config:
        from botorch.acquisition.logei import qLogNoisyExpectedImprovement
        from botorch.acquisition.objective import GenericMCObjective

        with calm(seed + 1000 * len(history)):
            model, places, said = fitted(history)
            seen = [history[i][0] for i in places]
            told = {
                tuple(row): advice
                for configs in (seen, left)
                for row, advice in zip(
                    filled(space, configs).tolist(), said(configs), strict=True
                )
            }

            def advised(Y: torch.Tensor, X: torch.Tensor) -> torch.Tensor:
                rows = X.reshape(-1, X.shape[-1]).tolist()
                extra = torch.tensor([told[tuple(row)] for row in rows])
                return Y[..., 0] + extra.reshape(X.shape[:-1]).to(Y)

            acquisition = qLogNoisyExpectedImprovement(
                model,
                torch.from_numpy(filled(space, seen)),
                objective=GenericMCObjective(advised),
                prune_baseline=True,
            )
            candidates = torch.from_numpy(filled(space, left)).unsqueeze(-2)
            with torch.no_grad():
                return left[int(acquisition(candidates).argmax())]

    def mean(history: History, seed: int) -> int:
        with calm(seed), torch.no_grad():
            with torch.enable_grad():
                model, places, said = fitted(history)
            configs = [history[i][0] for i in places]
            rows = torch.from_numpy(filled(space, configs))
            means = model.posterior(rows).mean[:, 0].numpy() + said(configs)
        return places[int(means.argmax())]

    return Row(pick, mean if is_advised else None)


def nothing(configs: Sequence[Config]) -> np.ndarray:
    """Advise nothing."""
    return np.zeros(len(configs))


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
    FAIR: lambda scene: botorch(scene, is_advised=True),
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
