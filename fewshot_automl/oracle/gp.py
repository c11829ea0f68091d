"""The oracle that learns: a Gaussian process with log noisy expected improvement."""

import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64
from numpy.linalg import LinAlgError

from fewshot_automl.errors import UserError
from fewshot_automl.oracle.advice import Adviser
from fewshot_automl.oracle.evidence import Evidence
from fewshot_automl.oracle.feasibility import success_probability
from fewshot_automl.oracle.folds import is_hopeless, resumable
from fewshot_automl.oracle.front_improvement import (
    FrontImprovement,
    Prospects,
    ScoreImprovement,
)
from fewshot_automl.oracle.goals import Aims
from fewshot_automl.oracle.improvement import Improvement
from fewshot_automl.oracle.linear import single_threaded
from fewshot_automl.oracle.oracle import History, tried
from fewshot_automl.oracle.part import (
    Part,
    all_of_few,
    evenly,
    fill,
    is_inside,
    neighbours,
)
from fewshot_automl.oracle.pursuit import Pursuit
from fewshot_automl.oracle.sampling import fresh
from fewshot_automl.oracle.sobol import SobolOracle
from fewshot_automl.oracle.surrogate import (
    LEAST_SECONDS,
    SurrogateError,
    fit_log_cost,
    fit_scores,
)
from fewshot_automl.outcome import Status
from fewshot_automl.space import Config, Space

logger = logging.getLogger(__name__)

LEADERS = 4
"""How many good Configs are mutated to find better ones nearby."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpOracle:
    """Suggests where a Gaussian process expects most improvement.

    The surrogate is refitted on the done trials at each call, with their squared
    standard errors as known noise; running trials are pending points. Improvement is
    over the posterior of what was seen, so a lucky score is no bar. It is multiplied
    with the estimated probability that the trial finishes and, if asked for, divided
    by a power of its predicted cost. Configs that have looked at some folds only are
    candidates too, for the folds that are left, unless that is hopeless. The best of a
    finite set of candidates is taken: points of a Sobol sequence and one-dimension
    mutations of good Configs, then again mutations of the best candidates.

    With other aims than the score alone, each objective that is not known exactly has
    a surrogate of its own, and what counts is the expected hypervolume improvement
    within the limits (see `FrontImprovement`).

    While fewer than `initial_trials` done trials can be encoded, or all of them score
    the same, there is nothing to learn from and `SobolOracle` answers.

    Source:
        Letham et al., Bayesian Analysis 2019, and Ament et al., NeurIPS 2023, for the
        improvement (see `Improvement`).
    """

    advisers: tuple[Adviser, ...] = ()
    """What is known of Configs before and beside the trials."""
    price: Callable[[Config, History], float] | None = None
    """Expected seconds of a Config, given the history; None: learnt from the seconds of
    the trials."""
    aims: Aims = field(default_factory=Aims)
    """What to improve and within which limits; the score alone if nothing is said."""
    cost_exponent: float = 0.0
    """Power of the expected seconds that divides the improvement; 0 ignores cost, 1
    is improvement per second."""
    budget_seconds: float | None = None
    """Of all trials of the study: the exponent falls to 0 as their seconds add up to
    it. None keeps it."""
    initial_trials: int = 4
    """Done trials before the surrogate takes over from the Sobol sequence."""
    candidates: int = 512
    """Configs among which the acquisition is maximised, each round together."""
    samples: int = 64
    """Monte Carlo samples of the values at what was tried."""
    fit_steps: int = 60
    """Most optimiser steps of a fit."""

    def __post_init__(self) -> None:
        """Check the settings."""
        if not self.cost_exponent >= 0:
            raise UserError(
                f"cost_exponent must be 0 or more, got {self.cost_exponent}. "
                "Use 0 to ignore cost, 1 for improvement per second."
            )
        if self.budget_seconds is not None and not self.budget_seconds > 0:
            raise UserError(
                f"budget_seconds must be more than 0, got {self.budget_seconds}. "
                "Give the seconds of all trials, or None to count no seconds."
            )
        for name, least in (
            ("initial_trials", 2),
            ("candidates", 8),
            ("samples", 1),
            ("fit_steps", 1),
        ):
            if getattr(self, name) < least:
                raise UserError(
                    f"{name} must be {least} or more, got {getattr(self, name)}."
                )

    def exponent(self, history: History) -> float:
        """Return the power of the seconds that divides the improvement next.

        Source:
            Lee et al., ICML 2020 AutoML workshop (CArBO), sec. 3, for the cooling.
        """
        if self.budget_seconds is None:
            return self.cost_exponent
        spent = sum(outcome.cost_seconds for _, outcome in history)
        return self.cost_exponent * max(1 - spent / self.budget_seconds, 0.0)

    def suggest(
        self,
        space: Space,
        history: History,
        n: int,
        seed: int,
        within: Part | None = None,
    ) -> list[Config]:
        """Return up to `n` Configs, each the best given those before it."""
        evidence = Evidence.of(space, history, self.advisers)
        inside = space if within is None else within
        if not evidence.teaches(self.initial_trials):
            return SobolOracle().suggest(space, history, n, seed, inside)
        try:
            with single_threaded():
                chosen = _Search(self, evidence, inside, seed).best(n)
        except (SurrogateError, LinAlgError) as error:
            logger.warning("Sobol points instead of the surrogate's: %s", error)
            return SobolOracle().suggest(space, history, n, seed, inside)
        return fill(inside, chosen, tried(history), n, seed)


class _Search:
    """Maximises the acquisition over candidates, for one call of `suggest`."""

    def __init__(
        self, oracle: GpOracle, evidence: Evidence, part: Part, seed: int
    ) -> None:
        self.oracle = oracle
        self.part = part
        self.seed = seed
        self.generator = np.random.default_rng([seed, len(evidence.history)])
        self.seen = tried(evidence.history)
        self.begun = set(resumable(evidence.history))
        self.score = fit_scores(evidence, steps=oracle.fit_steps, seed=seed)
        self.evidence = self.score.evidence
        self.pursuit = (
            None
            if oracle.aims.is_plain
            else Pursuit.of(oracle.aims, self.score, steps=oracle.fit_steps, seed=seed)
        )
        self.exponent = oracle.exponent(evidence.history)
        self.log_cost = (
            fit_log_cost(evidence, steps=oracle.fit_steps, seed=seed)
            if self.exponent > 0 and oracle.price is None
            else None
        )

    def best(self, n: int) -> list[Config]:
        """Return up to `n` candidates, the second best one given the best, and so on.

        A first round finds good Configs that are not all alike; a second one looks
        around them too.
        """
        pool = self._first_candidates()
        if not pool:
            return []
        picks = max(n, LEADERS)
        improvement = self._improvement(picks)
        points, bonus = self._looked_up(pool)
        leaders = [pool[i] for i in improvement.greedy(points, bonus, picks)]
        near = self._near(leaders, {*self.seen, *pool})
        if near:
            more, more_bonus = self._looked_up(near)
            points, pool = points.beside(more), pool + near
            bonus = np.concatenate([bonus, more_bonus])
        return [pool[i] for i in improvement.greedy(points, bonus, n)]

    def _first_candidates(self) -> list[Config]:
        """Return the whole space if it is small; else points all over and nearby."""
        limit = self.oracle.candidates
        begun = self._hopeful()
        everything = all_of_few(self.part, limit)
        if everything is not None:
            return begun + fresh(everything, self.seen, len(everything))
        seeds = [self.seed, len(self.evidence.history)]
        spread = evenly(self.part, seeds, limit)
        pool = begun + fresh(spread, self.seen, limit // 2)
        inside = [config for config in self._ranked() if is_inside(self.part, config)]
        return pool + self._near(inside[:LEADERS], {*self.seen, *pool})

    def _ranked(self) -> list[Config]:
        """Return the Configs of done trials, the best ones first."""
        configs = self._configs("done")
        if self.pursuit is not None:
            return [configs[i] for i in self.pursuit.ranked(configs)]
        means = self.score.means(self.evidence.rows("done"))
        return [configs[i] for i in np.argsort(-means, kind="stable")]

    def _configs(self, status: Status) -> list[Config]:
        """Return the Configs of the trials of one status."""
        history = self.evidence.history
        return [history[i][0] for i in self.evidence.indices(status)]

    def _hopeful(self) -> list[Config]:
        """Return the Configs with folds left that may yet turn out to be the best.

        With more aims than the score, a low score is no reason to lose hope.
        """
        process, done = self.score.process, self._configs("done")
        begun = [c for c in done if c in self.begun and is_inside(self.part, c)]
        whole = [c for c in done if c not in self.begun]
        if not begun or not whole or self.pursuit is not None:
            return begun
        ends = process.look_up(self.evidence.encode(whole))
        best = ends.take(np.array([np.argmax(ends.means)]))
        points = process.look_up(self.evidence.encode(begun))
        gains = points.means - best.means
        shared = points.covariance(best)[:, 0]
        variances = points.variances() + best.variances() - 2 * shared
        hopeless = is_hopeless(gains, np.sqrt(np.maximum(variances, 0.0)))
        return [c for c, is_lost in zip(begun, hopeless, strict=True) if not is_lost]

    def _near(self, configs: Sequence[Config], known: set[Config]) -> list[Config]:
        """Return new neighbours of some Configs, a quarter of the candidates."""
        each = max(self.oracle.candidates // 4 // max(len(configs), 1), 1)
        near = itertools.chain.from_iterable(
            itertools.islice(neighbours(self.part, config, self.generator), each)
            for config in configs
        )
        return fresh(near, known, self.oracle.candidates)

    def _improvement(self, picks: int) -> ScoreImprovement | FrontImprovement:
        """Return the improvement over what was seen in the space and is under way.

        A bar that nothing in the space can reach would leave only guesses far from
        all trials. Configs with folds left are no bar either: only a trial of all
        folds can win, so the folds that are left are worth what they may add to it.
        """
        configs, samples = self._configs("done"), self.oracle.samples
        inside = [is_inside(self.part, c) and c not in self.begun for c in configs]
        if self.pursuit is not None:
            bars = [c for c, is_bar in zip(configs, inside, strict=True) if is_bar]
            known = set(configs)
            running = [c for c in self._configs("running") if c not in known]
            return self.pursuit.improvement(
                bars, running, samples=samples, picks=picks, seed=self.seed
            )
        process, done = self.score.process, self.evidence.rows("done")
        pending = _distinct(self.evidence.rows("running"), apart_from=done)
        improvement = Improvement(
            process.look_up(_distinct(done[inside])),
            process.look_up(pending),
            samples=samples,
            picks=picks,
            seed=self.seed,
        )
        return ScoreImprovement(improvement)

    def _looked_up(
        self, configs: Sequence[Config]
    ) -> tuple[Prospects, Float64[np.ndarray, " configs"]]:
        """Return the posteriors at Configs, and what is added to each one's gain."""
        rows = self.evidence.encode(configs)
        prospects = (
            Prospects((self.score.process.look_up(rows),))
            if self.pursuit is None
            else self.pursuit.look_up(configs)
        )
        return prospects, self._bonus(configs, rows)

    def _bonus(
        self, configs: Sequence[Config], rows: Float64[np.ndarray, "rows columns"]
    ) -> Float64[np.ndarray, " rows"]:
        """Return what is added to the log improvement for success and for cost."""
        chance = success_probability(
            self.evidence.layout,
            rows,
            self.evidence.rows("done"),
            self.evidence.rows("failed"),
        )
        bonus: Float64[np.ndarray, " rows"] = np.log(chance)
        if self.begun:
            bonus -= np.log([self._share_left(config) for config in configs])
        if self.exponent > 0:
            bonus -= self.exponent * self._log_costs(configs)
        return bonus

    def _share_left(self, config: Config) -> float:
        """Return the share of a Config's folds that are still to be paid for."""
        if config not in self.begun:
            return 1.0
        outcome = dict(self.evidence.history)[config]
        return outcome.folds_left / (outcome.folds_left + len(outcome.scores))

    def _log_costs(self, configs: Sequence[Config]) -> Float64[np.ndarray, " configs"]:
        """Return the logarithm of the expected seconds of each Config."""
        price, history = self.oracle.price, self.evidence.history
        if price is not None:
            seconds = np.array([price(config, history) for config in configs])
            return np.asarray(np.log(np.maximum(seconds, LEAST_SECONDS)))
        if self.log_cost is None:
            return np.zeros(len(configs))
        return self.log_cost.means(self.evidence.plain.encode(configs))


def _distinct(
    rows: Float64[np.ndarray, "rows columns"],
    apart_from: Float64[np.ndarray, "others columns"] | None = None,
) -> Float64[np.ndarray, "distinct columns"]:
    """Return each row once, without those that stand in `apart_from`.

    A point that stands twice would make a joint covariance singular.
    """
    distinct = np.unique(rows, axis=0)
    if apart_from is None:
        return distinct
    repeats = (distinct[:, None] == apart_from[None]).all(-1).any(-1)
    return np.asarray(distinct[~repeats], dtype=np.float64)
