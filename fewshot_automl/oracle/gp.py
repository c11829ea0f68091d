"""The oracle that learns: a Gaussian process with log noisy expected improvement."""

import logging
from dataclasses import dataclass, field

from numpy.linalg import LinAlgError

from fewshot_automl.errors import UserError
from fewshot_automl.oracle.advice import Adviser
from fewshot_automl.oracle.evidence import Evidence
from fewshot_automl.oracle.goals import Aims
from fewshot_automl.oracle.linear import single_threaded
from fewshot_automl.oracle.oracle import tried
from fewshot_automl.oracle.part import Part, evenly, fill
from fewshot_automl.oracle.search import Effort, Search
from fewshot_automl.oracle.sobol import SobolOracle
from fewshot_automl.oracle.surrogate import SurrogateError
from fewshot_automl.outcome import History
from fewshot_automl.space import Config, Space

logger = logging.getLogger(__name__)

POOL = 2048
"""Points of a Sobol sequence of which those within the limits are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpOracle:
    """Suggests where a Gaussian process expects most improvement.

    The surrogate is refitted on the done trials at each call; their noise is a learnt
    share of their squared standard errors. Running trials are pending points.
    Improvement is over the posterior of what was seen, so a lucky score is no bar. It
    is multiplied with the estimated probability that the trial finishes. Configs that
    have looked at some folds only are candidates too, for the folds that are left and
    their share of a trial's cost, unless that is hopeless. The best of a finite set of
    candidates is taken: points of a Sobol sequence and one-dimension mutations of good
    Configs, then again mutations of the best candidates.

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
    aims: Aims = field(default_factory=Aims)
    """What to improve and within which limits; the score alone if nothing is said."""
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
        within: Part | None = None,
    ) -> list[Config]:
        """Return up to `n` Configs, each the best given those before it."""
        evidence = Evidence.of(space, history, self.advisers)
        inside = space if within is None else within
        effort = Effort(
            candidates=self.candidates, samples=self.samples, fit_steps=self.fit_steps
        )
        if evidence.teaches(self.initial_trials):
            try:
                with single_threaded():
                    search = Search(evidence, inside, self.aims, effort, seed)
                    chosen = search.best(n)
            except (SurrogateError, LinAlgError) as error:
                logger.warning("Sobol points instead of the surrogate's: %s", error)
            else:
                return fill(inside, chosen, tried(history), n, seed)
        allowed = self._allowed(inside, tried(history), n, seed)
        return SobolOracle().suggest(space, history, n, seed, allowed)

    def _allowed(self, part: Part, seen: set[Config], n: int, seed: int) -> Part:
        """Return what of a part keeps the limits on quantities that Configs fix.

        That is a pool of untried Configs; where it has fewer than `n`, the whole part.
        """
        if self.aims.exact.keys().isdisjoint(limit.name for limit in self.aims.limits):
            return part
        spread = dict.fromkeys(evenly(part, seed, POOL))
        pool = [c for c in spread if c not in seen and self.aims.keeps(c)]
        return pool if len(pool) >= n else part
