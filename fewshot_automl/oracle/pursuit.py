"""Several goals and limits, as the search for the next Config sees them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from fewshot_automl.oracle.front_improvement import (
    FrontImprovement,
    Prospects,
    Standard,
)
from fewshot_automl.oracle.goals import SCORE, Aims
from fewshot_automl.oracle.hypervolume import nondominated, reference_point
from fewshot_automl.oracle.improvement import LOWEST_BAR
from fewshot_automl.oracle.quantity import Quantity
from fewshot_automl.oracle.surrogate import Surrogate
from fewshot_automl.space import Config

logger = logging.getLogger(__name__)

BELOW = 1.0
"""Standard deviations below the worst seen where a lone goal begins to count."""


@dataclass(frozen=True, slots=True)
class Pursuit:
    """Holds what is believed of every goal and limit, for one call of `suggest`.

    Quantities are taken as independent of each other. One that no trial measured is
    left out, and said so.
    """

    quantities: tuple[Quantity, ...]
    """The goals, then what only has a limit."""
    standard: Standard
    """What is wanted of them."""

    @classmethod
    def of(cls, aims: Aims, score: Surrogate, *, steps: int, seed: int) -> "Pursuit":
        """Return what a history says of some aims.

        Args:
            aims: What the search is after.
            score: What was learnt of the score, and from which trials.
            steps: Most optimiser steps of a fit.
            seed: For a second start after a failed fit.

        Raises:
            SurrogateError: If no process can be fitted to a quantity.
            UserError: If a quantity that a Config fixes is not finite.
        """
        quantities = {
            name: quantity
            for name in aims.names
            if (quantity := _quantity(name, aims, score, steps, seed))
        }
        goals = [goal.name for goal in aims.goals if goal.name in quantities]
        if not goals:
            # Nothing to improve was measured, so only limits count.
            quantities = {SCORE: Quantity.scored(score), **quantities}
            goals = [SCORE]
        ordered = tuple(quantities.values())
        ranges = tuple(_range(quantity, aims) for quantity in ordered)
        done = _done(score)
        means = Prospects(tuple(one.look_up(done) for one in ordered)).means()
        reference = _reference(aims, ordered[: len(goals)], ranges, means)
        return cls(ordered, Standard(ranges, reference))

    def look_up(self, configs: Sequence[Config]) -> Prospects:
        """Return all quantities at Configs."""
        return Prospects(tuple(one.look_up(configs) for one in self.quantities))

    def improvement(
        self,
        seen: Sequence[Config],
        pending: Sequence[Config],
        *,
        samples: int,
        picks: int,
        seed: int,
    ) -> FrontImprovement:
        """Return the improvement over what was seen and is under way.

        Args:
            seen: Configs of done trials; repeats count once.
            pending: Configs under way; those that were seen too are left out.
            samples: How many samples.
            picks: How many candidates will be chosen at most.
            seed: Makes the samples repeatable.
        """
        distinct = dict.fromkeys(seen)
        new = [config for config in dict.fromkeys(pending) if config not in distinct]
        return FrontImprovement(
            self.look_up(list(distinct)),
            self.look_up(new),
            self.standard,
            samples=samples,
            picks=picks,
            seed=seed,
        )

    def ranked(self, configs: Sequence[Config]) -> list[int]:
        """Return where Configs stand, the best expected ones first.

        Those within the limits come first, of them those on the front, then by the
        first goal; those outside by how far they are outside.
        """
        if not configs:
            return []
        means = self.look_up(configs).means()
        least, most = np.array(self.standard.ranges).T
        off = np.maximum(np.maximum(least - means, means - most), 0.0).sum(axis=1)
        goals = means[:, : len(self.standard.reference)]
        hidden = np.where((off == 0)[:, None], goals, -np.inf)
        on_front = nondominated(hidden)
        order = np.lexsort((-goals[:, 0], ~on_front, off))
        return [int(place) for place in order]


def _quantity(
    name: str, aims: Aims, score: Surrogate, steps: int, seed: int
) -> Quantity | None:
    """Return what is believed of one quantity, None where nothing is known of it."""
    known = aims.exact.get(name)
    if known is not None:
        return Quantity.exact(name, known, _done(score), aims)
    if name == SCORE:
        return Quantity.scored(score)
    space, history = score.evidence.encoding.space, score.evidence.history
    quantity = Quantity.learnt(name, space, history, aims, steps=steps, seed=seed)
    if quantity is None:
        logger.warning("No done trial measured %s, so it is left out.", name)
    return quantity


def _done(score: Surrogate) -> list[Config]:
    """Return the Configs of the done trials."""
    evidence = score.evidence
    return [evidence.history[i][0] for i in evidence.indices("done")]


def _range(quantity: Quantity, aims: Aims) -> tuple[float, float]:
    """Return what is allowed of a quantity on its standard scale."""
    limit = aims.limit(quantity.name)
    if limit is None:
        return -np.inf, np.inf
    return quantity.scale.standard_range(limit.least, limit.most)


def _reference(
    aims: Aims,
    goals: Sequence[Quantity],
    ranges: Sequence[tuple[float, float]],
    means: Float64[np.ndarray, "trials quantities"],
) -> tuple[float, ...]:
    """Return the reference that was given, or one by what was seen within the limits.

    For a lone goal it only says what it is worth to have something within the limits
    where there may be nothing, and is put well below what was seen.
    """
    if aims.reference is not None:
        given = dict(zip((g.name for g in aims.goals), aims.reference, strict=True))
        return tuple(
            goal.scale.standard_of(given[goal.name])
            if goal.name in given
            else LOWEST_BAR
            for goal in goals
        )
    least, most = np.array(ranges).T
    is_allowed = ((means >= least) & (means <= most)).all(axis=1)
    values = means[:, : len(goals)]
    inside = values[is_allowed] if is_allowed.any() else values
    if len(goals) == 1:
        lowest = float(inside.min()) - BELOW if aims.limits else LOWEST_BAR
        return (max(lowest, LOWEST_BAR),)
    is_quality = np.array([not aims.is_cost(goal.name) for goal in goals])
    return tuple(reference_point(inside, is_quality).tolist())
