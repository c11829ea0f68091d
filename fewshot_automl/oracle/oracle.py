"""What every oracle promises, and the two that learn nothing."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from fewshot_automl.oracle.candidates import Allows, fill, fresh, sobol_configs
from fewshot_automl.outcome import History
from fewshot_automl.space import Config, Space

POOL = 256
"""Sobol points that are looked through beyond those tried; not all are allowed."""


@runtime_checkable
class Oracle(Protocol):
    """Proposes Configs; keeps no state, so resuming is reading the history again."""

    def suggest(
        self, space: Space, history: History, n: int, seed: int, allows: Allows = None
    ) -> list[Config]:
        """Return up to `n` different Configs to try next, the best first.

        Args:
            space: Where to search; every suggestion lies in it.
            history: Trials so far. Running ones count as pending, failed ones as
                failures and never as scores, stopped ones say nothing; what lies
                outside `space` is ignored.
            n: How many are wanted.
            seed: Makes the answer repeatable; not negative.
            allows: Whether a Config may be suggested; what was seen elsewhere still
                counts. None for all of the space.

        Returns:
            Configs that are not in `history` (unless they were stopped); fewer than
            `n` only when no other is allowed.
        """
        ...


def tried(history: History) -> set[Config]:
    """Return the Configs that must not be suggested again: stopped ones may be."""
    return {config for config, outcome in history if outcome.status != "stopped"}


@dataclass(frozen=True, slots=True)
class RandomOracle:
    """Draws Configs uniformly from the unit cube: what every oracle has to beat."""

    def suggest(
        self, space: Space, history: History, n: int, seed: int, allows: Allows = None
    ) -> list[Config]:
        """Return up to `n` random Configs that were not tried before."""
        return fill(space, tried(history), allows, n, seed)


@dataclass(frozen=True, slots=True)
class SobolOracle:
    """Walks along the scrambled Sobol sequence of a seed, from where a history ends."""

    def suggest(
        self, space: Space, history: History, n: int, seed: int, allows: Allows = None
    ) -> list[Config]:
        """Return up to `n` Configs that fill the gaps of the history."""
        seen = tried(history)
        points = sobol_configs(space, seed, 2 * (len(history) + n) + POOL)
        chosen = fresh(points, seen, allows, n)
        return chosen + fill(space, {*seen, *chosen}, allows, n - len(chosen), seed)
