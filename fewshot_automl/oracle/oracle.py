"""What every oracle promises, the two that learn nothing, and the table of all."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from fewshot_automl.errors import unknown_name
from fewshot_automl.oracle.aims import PLAIN, Aims
from fewshot_automl.oracle.candidates import Allows, fill, fresh, sobol_configs
from fewshot_automl.oracle.prior import Prior
from fewshot_automl.outcome import History
from fewshot_automl.space import Choice, Config, Space

POOL = 128
"""Untried Sobol points among which the least tried options are looked for."""


@runtime_checkable
class Oracle(Protocol):
    """Proposes Configs and keeps no state between calls.

    All that an oracle may learn from is in its arguments, so resuming a study is
    reading its history again. The wall clock and the budget are the caller's.
    """

    def suggest(
        self,
        space: Space,
        history: History,
        n: int,
        seed: int,
        allows: Allows = None,
    ) -> list[Config]:
        """Return up to `n` different Configs to try next, the best first.

        Args:
            space: Where to search; every suggestion lies in it.
            history: Trials so far. Running ones count as pending, failed ones as
                failures and never as scores, stopped ones say nothing. Configs from
                outside `space` are used where they can be encoded.
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
    """Return the Configs that must not be suggested again.

    A stopped trial ran out of its seconds and may have another chance.
    """
    return {config for config, outcome in history if outcome.status != "stopped"}


@dataclass(frozen=True, slots=True)
class RandomOracle:
    """Draws Configs uniformly from the unit cube: what every oracle has to beat.

    >>> from fewshot_automl.space import Choice
    >>> space = Space((Choice(name="method", options=("probe", "lora")),))
    >>> sorted(map(str, RandomOracle().suggest(space, [], 5, seed=0)))
    ['method=lora', 'method=probe']
    """

    def suggest(
        self,
        space: Space,
        history: History,
        n: int,
        seed: int,
        allows: Allows = None,
    ) -> list[Config]:
        """Return up to `n` random Configs that were not tried before."""
        return fill(space, [], tried(history), allows, n, seed)


@dataclass(frozen=True, slots=True)
class SobolOracle:
    """Walks along a scrambled Sobol sequence, least tried options first.

    The sequence belongs to the seed: with one seed for a whole study the numeric
    dimensions are covered evenly across calls. A sequence decoded into few options
    may still leave one out for long, so of the next `POOL` untried points the one is
    taken whose options were tried least; ties keep the order of the sequence.

    >>> from fewshot_automl.space import Choice
    >>> space = Space((Choice(name="backbone", options=("a", "b", "c")),))
    >>> sorted(map(str, SobolOracle().suggest(space, [], 3, seed=0)))
    ['backbone=a', 'backbone=b', 'backbone=c']
    """

    def suggest(
        self,
        space: Space,
        history: History,
        n: int,
        seed: int,
        allows: Allows = None,
    ) -> list[Config]:
        """Return up to `n` Configs that fill the widest gaps of the history."""
        seen = tried(history)
        points = sobol_configs(space, seed, 2 * (len(history) + n + POOL))
        pool = fresh(points, seen, allows, n + POOL)
        counts = Counter(option for config in seen for option in _options(space, config))
        chosen: list[Config] = []
        while pool and len(chosen) < n:
            config = min(pool, key=lambda c: _excess(space, c, counts))
            pool.remove(config)
            chosen.append(config)
            counts.update(_options(space, config))
        return fill(space, chosen, seen, allows, n, seed)


def _options(space: Space, config: Config) -> list[tuple[str, str]]:
    return [
        (dimension.name, config.text(dimension.name))
        for dimension in space.dimensions
        if isinstance(dimension, Choice) and dimension.name in config
    ]


def _excess(space: Space, config: Config, counts: Counter[tuple[str, str]]) -> int:
    """Return how much more its options were tried than the least tried ones."""
    excess = 0
    for name, option in _options(space, config):
        choice = space[name]
        assert isinstance(choice, Choice)
        least = min(counts[name, other] for other in choice.options)
        excess += counts[name, option] - least
    return excess


def _gp(prior: Prior | None, aims: Aims) -> Oracle:
    from fewshot_automl.oracle.gp import GpOracle

    return GpOracle(prior=prior or Prior(), aims=aims)


ORACLES: Final[Mapping[str, Callable[[Prior | None, Aims], Oracle]]] = {
    "gp": _gp,
    "sobol": lambda prior, aims: SobolOracle(),
    "random": lambda prior, aims: RandomOracle(),
}
"""Makes each oracle; only the first listens to a prior and has aims."""


def oracle_named(
    name: str, *, prior: Prior | None = None, aims: Aims = PLAIN
) -> Oracle:
    """Return the oracle of that name with its default settings.

    Args:
        name: Its row in the table.
        prior: What past studies advise, if it learns; None for no advice.
        aims: What it is after, if it learns.

    Raises:
        UnknownNameError: If the table has no such name.

    >>> oracle_named("sobol")
    SobolOracle()
    """
    if name not in ORACLES:
        raise unknown_name("oracle", name, ORACLES, "fewshot fit --help")
    return ORACLES[name](prior, aims)
