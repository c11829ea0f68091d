"""The oracle that learns: a Gaussian process with log noisy expected improvement."""

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64

from fewshot_automl.errors import UserError
from fewshot_automl.oracle.evidence import Evidence
from fewshot_automl.oracle.feasibility import success_probability
from fewshot_automl.oracle.libraries import (
    SobolQMCNormalSampler,
    qLogNoisyExpectedImprovement,
)
from fewshot_automl.oracle.oracle import History, tried
from fewshot_automl.oracle.sampling import (
    all_configs,
    fill,
    fresh,
    mutations,
    sobol_configs,
)
from fewshot_automl.oracle.sobol import SobolOracle
from fewshot_automl.oracle.surrogate import (
    NUMERICAL_ERRORS,
    SurrogateError,
    fit_log_cost,
    fit_scores,
)
from fewshot_automl.oracle.tabulated import Tabulated
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
    by a power of its predicted cost. The best of a finite set of candidates is taken:
    points of a Sobol sequence and one-dimension mutations of good Configs, then again
    mutations of the best candidates.

    While fewer than `initial_trials` done trials can be encoded, or all of them score
    the same, there is nothing to learn from and `SobolOracle` answers.

    Source:
        Ament et al., NeurIPS 2023 (qLogNEI); Balandat et al., NeurIPS 2020 (BoTorch).
    """

    cost_exponent: float = 0.0
    """Power of the predicted seconds that divides the improvement; 0 ignores cost, 1
    is improvement per second. The caller cools it towards 0 as its budget ends."""
    initial_trials: int = 4
    """Done trials before the surrogate takes over from the Sobol sequence."""
    candidates: int = 512
    """Configs among which the acquisition is maximised, each round together."""
    samples: int = 64
    """Monte Carlo samples of the posterior."""
    fit_steps: int = 60
    """Most optimiser steps of a fit."""

    def __post_init__(self) -> None:
        """Check the settings."""
        if not self.cost_exponent >= 0:
            raise UserError(
                f"cost_exponent must be 0 or more, got {self.cost_exponent}. "
                "Use 0 to ignore cost, 1 for improvement per second."
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

    def suggest(
        self, space: Space, history: History, n: int, seed: int
    ) -> list[Config]:
        """Return up to `n` Configs, each the best given those before it."""
        evidence = Evidence.of(space, history)
        if not evidence.teaches(self.initial_trials):
            return SobolOracle().suggest(space, history, n, seed)
        try:
            chosen = _Search(self, evidence, seed).best(n)
        except (SurrogateError, *NUMERICAL_ERRORS) as error:
            logger.warning("Sobol points instead of the surrogate's: %s", error)
            return SobolOracle().suggest(space, history, n, seed)
        return fill(space, chosen, tried(history), n, seed)


class _Search:
    """Maximises the acquisition over candidates, for one call of `suggest`."""

    def __init__(self, oracle: GpOracle, evidence: Evidence, seed: int) -> None:
        self.oracle = oracle
        self.evidence = evidence
        self.space = evidence.encoding.space
        self.seed = seed
        self.generator = np.random.default_rng([seed, len(evidence.history)])
        self.seen = tried(evidence.history)
        self.score = fit_scores(evidence, steps=oracle.fit_steps, seed=seed)
        self.log_cost = (
            fit_log_cost(evidence, steps=oracle.fit_steps, seed=seed)
            if oracle.cost_exponent > 0
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
        leaders = self._greedy(pool, max(n, LEADERS))
        pool += self._near(leaders, {*self.seen, *pool})
        return self._greedy(pool, n)

    def _first_candidates(self) -> list[Config]:
        """Return the whole space if it is small; else points all over and nearby."""
        limit = self.oracle.candidates
        everything = list(itertools.islice(all_configs(self.space), limit + 1))
        if len(everything) <= limit:
            return fresh(everything, self.seen, limit)
        seeds = [self.seed, len(self.evidence.history)]
        spread = sobol_configs(self.space, seeds, limit)
        pool = fresh(spread, self.seen, limit // 2)
        means = self.score.means(self.evidence.rows("done"))
        done = self.evidence.indices("done")
        leaders = [done[i] for i in np.argsort(-means, kind="stable")[:LEADERS]]
        configs = [self.evidence.history[i][0] for i in leaders]
        return pool + self._near(configs, {*self.seen, *pool})

    def _near(self, configs: Sequence[Config], known: set[Config]) -> list[Config]:
        """Return new neighbours of some Configs, a quarter of the candidates."""
        each = max(self.oracle.candidates // 4 // len(configs), 1)
        neighbours = itertools.chain.from_iterable(
            itertools.islice(mutations(self.space, config, self.generator), each)
            for config in configs
        )
        return fresh(neighbours, known, self.oracle.candidates)

    def _greedy(self, pool: Sequence[Config], n: int) -> list[Config]:
        """Return `n` of the pool one by one, earlier ones pending for later ones."""
        rows = self.evidence.encoding.encode(pool)
        done, running = self.evidence.rows("done"), self.evidence.rows("running")
        baseline, pending = _distinct(done), _distinct(running, apart_from=done)
        table = Tabulated(
            self.score.model, torch.from_numpy(np.vstack([baseline, pending, rows]))
        )
        first = len(baseline) + len(pending)
        under_way = list(range(len(baseline), first))
        bonus = self._bonus(rows)
        chosen: list[int] = []
        left = list(range(len(pool)))
        while left and len(chosen) < n:
            acquisition = self._acquisition(
                table, range(len(baseline)), under_way + [first + i for i in chosen]
            )
            candidates = table.inputs([first + i for i in left])
            with torch.no_grad():
                values = acquisition(candidates.unsqueeze(-2)).numpy() + bonus[left]
            chosen.append(left.pop(int(np.argmax(values))))
        return [pool[i] for i in chosen]

    def _acquisition(
        self, table: Tabulated, baseline: range, pending: list[int]
    ) -> qLogNoisyExpectedImprovement:
        """Return the log noisy expected improvement, given what is under way."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)  # pruning draws samples of its own
            return qLogNoisyExpectedImprovement(
                table,
                X_baseline=table.inputs(baseline),
                sampler=SobolQMCNormalSampler(
                    torch.Size([self.oracle.samples]), seed=self.seed
                ),
                X_pending=table.inputs(pending) if pending else None,
                prune_baseline=True,
                cache_root=True,
            )

    def _bonus(
        self, rows: Float64[np.ndarray, "rows columns"]
    ) -> Float64[np.ndarray, " rows"]:
        """Return what is added to the log improvement for success and for cost."""
        chance = success_probability(
            self.evidence.encoding.layout,
            rows,
            self.evidence.rows("done"),
            self.evidence.rows("failed"),
        )
        bonus: Float64[np.ndarray, " rows"] = np.log(chance)
        if self.log_cost is not None:
            bonus -= self.oracle.cost_exponent * self.log_cost.means(rows)
        return bonus


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
