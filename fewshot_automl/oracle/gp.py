"""The oracle that learns: a Gaussian process with log noisy expected improvement."""

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fewshot_automl.errors import UserError
from fewshot_automl.oracle.aims import PLAIN, Aims
from fewshot_automl.oracle.candidates import (
    Allows,
    all_of_few,
    fresh,
    neighbours,
    sobol_configs,
)
from fewshot_automl.oracle.encoding import Encoding
from fewshot_automl.oracle.oracle import SobolOracle, tried
from fewshot_automl.oracle.prior import Prior
from fewshot_automl.oracle.scores import differ
from fewshot_automl.outcome import History, Outcome
from fewshot_automl.space import Config, Space

if TYPE_CHECKING:
    from fewshot_automl.oracle.acquisition import Search

logger = logging.getLogger(__name__)

RUNNING = Outcome(status="running")

LEADERS = 4
"""How many good Configs are mutated to find better ones nearby."""
SPREAD = 4
"""Sobol points that are drawn for each candidate; most may not be allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpOracle:
    """Suggests where a Gaussian process expects most improvement.

    The process is refitted on the done trials at each call. Running trials are pending
    points. Improvement is over the posterior of what was seen, so a lucky score is no
    bar. It is multiplied with the estimated probability that the trial finishes. The
    best of a finite list is taken: Sobol points and neighbours of good Configs, then
    also neighbours of the best candidates. With other aims than the score alone, each
    measure that is not known exactly has a process of its own, and what counts is the
    expected hypervolume improvement within the limits.

    While fewer than `initial_trials` done trials can be encoded, or all of them score
    the same, there is nothing to learn from and `SobolOracle` answers.

    Source:
        Ament et al., NeurIPS 2023, for both acquisitions, as in BoTorch.
    """

    prior: Prior = field(default_factory=Prior)
    """What past studies advise."""
    aims: Aims = PLAIN
    """What to improve and within which limits."""
    regularise_scores: bool = True
    """Whether scores are moved towards what their refinement loss lets expect."""
    initial_trials: int = 4
    """Done trials before the process takes over from the Sobol sequence."""
    candidates: int = 512
    """Configs of the first list."""
    samples: int = 64
    """Monte Carlo samples of the acquisition."""
    fit_steps: int = 50
    """Most optimiser steps of a fit."""

    def __post_init__(self) -> None:
        """Check the settings."""
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
        self,
        space: Space,
        history: History,
        n: int,
        seed: int,
        allows: Allows = None,
    ) -> list[Config]:
        """Return up to `n` Configs, each the best given those before it."""
        seen = tried(history)

        def inside(config: Config) -> bool:
            return self.aims.keeps(config) and (allows is None or allows(config))

        chosen: list[Config] = []
        if self._teaches(space, history):
            chosen = self._searched(space, history, n, seed, inside)
        if len(chosen) >= n:
            return chosen
        shown = [*history, *((config, RUNNING) for config in chosen)]
        return chosen + SobolOracle().suggest(
            space, shown, n - len(chosen), seed, inside
        )

    def choose(
        self,
        space: Space,
        history: History,
        pool: Sequence[Config],
        n: int,
        seed: int,
    ) -> list[Config]:
        """Return up to `n` Configs of a closed list, each the best given those before.

        Args:
            space: Where the Configs live.
            history: Trials so far.
            pool: The only Configs that may be chosen; those tried are left out.
            n: How many are wanted.
            seed: Makes the answer repeatable; not negative.
        """
        left = fresh(pool, tried(history), self.aims.keeps, len(pool))
        chosen: list[Config] = []
        if left and self._teaches(space, history):
            chosen = self._searched(space, history, n, seed, None, left)
        order = np.random.default_rng([seed, len(history)]).permutation(len(left))
        more = [left[i] for i in order.tolist() if left[i] not in chosen]
        return [*chosen, *more][:n]

    def _teaches(self, space: Space, history: History) -> bool:
        """Return whether enough done trials can be encoded and their scores differ."""
        encoding = Encoding(space)
        scores = [o.mean for c, o in history if o.is_done and encoding.knows(c)]
        return len(scores) >= self.initial_trials and differ(np.array(scores))

    def _searched(
        self,
        space: Space,
        history: History,
        n: int,
        seed: int,
        allows: Allows,
        pool: list[Config] | None = None,
    ) -> list[Config]:
        """Return the best candidates, none where no process can be fitted."""
        # Only here: the libraries take some seconds to import.
        from fewshot_automl.oracle.acquisition import Search
        from fewshot_automl.oracle.model import FIT_FAILURES, calm

        try:
            with calm(seed):
                search = Search(
                    space,
                    history,
                    self.prior,
                    self.aims,
                    regularise=self.regularise_scores,
                    samples=self.samples,
                    steps=self.fit_steps,
                    seed=seed,
                )
                if pool is not None:
                    return search.best(pool, search.gains(pool), n)
                return self._in_space(search, space, history, n, seed, allows)
        except FIT_FAILURES as error:
            logger.warning(
                "Sobol points instead of the Gaussian process's, which could not be "
                "fitted to %d trials (%s: %s)",
                len(history),
                type(error).__name__,
                error,
            )
            return []

    def _in_space(
        self,
        search: "Search",
        space: Space,
        history: History,
        n: int,
        seed: int,
        allows: Allows,
    ) -> list[Config]:
        """Return the best of points all over the space and near good Configs."""
        seen, most = tried(history), self.candidates
        few = all_of_few(space, most)
        if few is not None:
            pool = fresh(few, seen, allows, most)
            return search.best(pool, search.gains(pool), n) if pool else []
        seeds = [seed, len(history)]
        generator = np.random.default_rng(seeds)

        def near(configs: Sequence[Config], known: set[Config]) -> list[Config]:
            each = max(most // 4 // max(len(configs), 1), 1)
            found = itertools.chain.from_iterable(
                itertools.islice(neighbours(space, config, generator), each)
                for config in configs
            )
            return fresh(found, known, allows, most)

        pool = fresh(sobol_configs(space, seeds, SPREAD * most), seen, allows, most // 2)
        pool += near(search.leaders(LEADERS), {*seen, *pool})
        if not pool:
            return []
        gains = search.gains(pool)
        best = [pool[i] for i in np.argsort(-gains, kind="stable")[:LEADERS]]
        if more := near(best, {*seen, *pool}):
            pool, gains = pool + more, np.concatenate([gains, search.gains(more)])
        return search.best(pool, gains, n)
