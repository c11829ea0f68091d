"""One search for the next Configs: what is learnt, and where most is expected."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from fewshot_automl.oracle.evidence import Evidence
from fewshot_automl.oracle.feasibility import success_probability
from fewshot_automl.oracle.front_improvement import (
    FrontImprovement,
    Prospects,
    ScoreImprovement,
)
from fewshot_automl.oracle.goals import Aims
from fewshot_automl.oracle.improvement import Improvement
from fewshot_automl.oracle.oracle import tried
from fewshot_automl.oracle.part import (
    Part,
    all_of_few,
    evenly,
    is_inside,
    neighbours,
)
from fewshot_automl.oracle.pursuit import Pursuit
from fewshot_automl.oracle.sampling import fresh
from fewshot_automl.oracle.surrogate import fit_scores
from fewshot_automl.outcome import Status
from fewshot_automl.space import Config

LEADERS = 4
"""How many good Configs are mutated to find better ones nearby."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Says how thoroughly to search."""

    candidates: int
    """Configs among which the acquisition is maximised, each round together."""
    samples: int
    """Monte Carlo samples of the values at what was tried."""
    fit_steps: int
    """Most optimiser steps of a fit."""


class Search:
    """Maximises the acquisition over candidates, for one call of `suggest`."""

    def __init__(
        self,
        evidence: Evidence,
        part: Part,
        aims: Aims,
        effort: Effort,
        seed: int,
    ) -> None:
        """Fit what there is to learn.

        Args:
            evidence: The trials.
            part: Where suggestions must lie.
            aims: What to improve and within which limits.
            effort: How thoroughly.
            seed: Makes it repeatable.

        Raises:
            SurrogateError: If no process can be fitted.
            LinAlgError: If a covariance is not positive definite.
        """
        self.part = part
        self.effort = effort
        self.seed = seed
        self.generator = np.random.default_rng([seed, len(evidence.history)])
        self.seen = tried(evidence.history)
        self.score = fit_scores(evidence, steps=effort.fit_steps, seed=seed)
        self.evidence = self.score.evidence
        self.pursuit = (
            None
            if aims.is_plain
            else Pursuit.of(aims, self.score, steps=effort.fit_steps, seed=seed)
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
        limit = self.effort.candidates
        everything = all_of_few(self.part, limit)
        if everything is not None:
            return fresh(everything, self.seen, len(everything))
        seeds = [self.seed, len(self.evidence.history)]
        spread = evenly(self.part, seeds, limit)
        pool = fresh(spread, self.seen, limit // 2)
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

    def _near(self, configs: Sequence[Config], known: set[Config]) -> list[Config]:
        """Return new neighbours of some Configs, a quarter of the candidates."""
        each = max(self.effort.candidates // 4 // max(len(configs), 1), 1)
        near = itertools.chain.from_iterable(
            itertools.islice(neighbours(self.part, config, self.generator), each)
            for config in configs
        )
        return fresh(near, known, self.effort.candidates)

    def _improvement(self, picks: int) -> ScoreImprovement | FrontImprovement:
        """Return the improvement over what was seen in the space and is under way.

        A bar that nothing in the space can reach would leave only guesses far from
        all trials.
        """
        configs, samples = self._configs("done"), self.effort.samples
        inside = [is_inside(self.part, c) for c in configs]
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
        return prospects, self._bonus(rows)

    def _bonus(
        self, rows: Float64[np.ndarray, "rows columns"]
    ) -> Float64[np.ndarray, " rows"]:
        """Return what is added to the log improvement: for success."""
        chance = success_probability(
            self.evidence.layout,
            rows,
            self.evidence.rows("done"),
            self.evidence.rows("failed"),
        )
        return np.asarray(np.log(chance))


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
