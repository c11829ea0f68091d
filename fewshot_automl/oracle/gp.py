"""The oracle that learns, a Gaussian process, and the table of all oracles."""

import itertools
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fewshot_automl.errors import unknown_name
from fewshot_automl.oracle.aims import PLAIN, Aims
from fewshot_automl.oracle.candidates import (
    Allows,
    all_configs,
    fresh,
    neighbours,
    sobol_configs,
)
from fewshot_automl.oracle.oracle import Oracle, RandomOracle, SobolOracle, tried
from fewshot_automl.oracle.prior import Prior
from fewshot_automl.oracle.scores import calm, differ
from fewshot_automl.outcome import History, Outcome
from fewshot_automl.space import Config, Space

if TYPE_CHECKING:
    from fewshot_automl.oracle.acquisition import Search

logger = logging.getLogger(__name__)

FALLBACK: Final = "%s (%s), so Sobol points for want of a process on %d trials"
LEADERS: Final = 4
"""How many good Configs are mutated to find better ones nearby."""
SPREAD: Final = 4
"""Sobol points that are drawn for each candidate; not all are allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpOracle:
    """Suggests where a Gaussian process expects most improvement.

    Running trials are pending points. Improvement is over the posterior of what was
    seen, so a lucky score is no bar; what is likely to fail is left out. The best of a
    list is taken: Sobol points and neighbours of good Configs, then neighbours of the
    best candidates. With other aims than the score, each measure that is not known has
    a process of its own, and hypervolume within the limits is improved. While too few
    trials are done, or all score the same, `SobolOracle` answers.

    Source:
        Ament et al., NeurIPS 2023, for both acquisitions, as in BoTorch.
    """

    prior: Prior | None = None
    """What past studies advise; None for nothing."""
    aims: Aims = PLAIN
    """What to improve and within which limits."""
    regularise_scores: bool = True
    """Whether scores are moved towards what their refinement loss lets expect."""
    initial_trials: int = 3
    """Done trials before the process takes over from the Sobol sequence."""
    candidates: int = 512
    """Configs of the first list."""
    samples: int = 64
    """Monte Carlo samples of the acquisition."""
    fit_steps: int = 50
    """Most optimiser steps of a fit."""

    def suggest(
        self, space: Space, history: History, n: int, seed: int, allows: Allows = None
    ) -> list[Config]:
        """Return up to `n` Configs, each the best given those before it."""

        def inside(config: Config) -> bool:
            return self.aims.keeps(config) and (allows is None or allows(config))

        chosen: list[Config] = []
        scores = [o.mean for c, o in history if o.is_done and space.contains(c)]
        if len(scores) >= self.initial_trials and differ(np.array(scores)):
            with calm(seed):
                from fewshot_automl.oracle.acquisition import Search
                from fewshot_automl.oracle.model import FIT_FAILURES

                try:
                    search = Search(space, history, self, seed, n)
                    chosen = self._best(search, tried(history), n, inside)
                except FIT_FAILURES as error:
                    kind = type(error).__name__
                    logger.warning(FALLBACK, kind, error, len(history))
        shown = [*history, *((c, Outcome(status="running")) for c in chosen)]
        missing = n - len(chosen)
        return chosen + SobolOracle().suggest(space, shown, missing, seed, inside)

    def _best(
        self, search: "Search", seen: set[Config], n: int, allows: Allows
    ) -> list[Config]:
        """Return the best of points all over the space and near good Configs."""
        space, most, seeds = search.space, self.candidates, [search.seed, len(seen)]
        generator = np.random.default_rng(seeds)

        def near(configs: Iterable[Config], known: set[Config]) -> list[Config]:
            each = most // 4 // LEADERS
            parts = [neighbours(space, config, generator, each) for config in configs]
            return fresh(itertools.chain(*parts), known, allows, most)

        if space.size() <= most:
            pool = fresh(all_configs(space), seen, allows, most)
        else:
            spread = sobol_configs(space, seeds, SPREAD * most)
            pool = fresh(spread, seen, allows, most // 2)
            pool += near(search.leaders(LEADERS), {*seen, *pool})
        if not pool:
            return []
        gains = search.gains(pool)
        best = [pool[i] for i in np.argsort(-gains, kind="stable")[:LEADERS]]
        if more := near(best, {*seen, *pool}):
            pool, gains = pool + more, np.concatenate([gains, search.gains(more)])
        return search.best(pool, gains, n)


ORACLES: Final[Mapping[str, Callable[[Prior | None, Aims], Oracle]]] = {
    "gp": lambda prior, aims: GpOracle(prior=prior, aims=aims),
    "sobol": lambda prior, aims: SobolOracle(),
    "random": lambda prior, aims: RandomOracle(),
}
"""Makes each oracle; only the first listens to a prior and has aims."""


def oracle_named(
    name: str, *, prior: Prior | None = None, aims: Aims = PLAIN
) -> Oracle:
    """Return the oracle of that name in the table with its default settings.

    >>> oracle_named("sobol")
    SobolOracle()
    """
    if name not in ORACLES:
        raise unknown_name("oracle", name, ORACLES, "fewshot fit --help")
    return ORACLES[name](prior, aims)
