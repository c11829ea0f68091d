"""Even coverage of a space, for the first trials and wherever nothing is known."""

from collections import Counter
from dataclasses import dataclass

from fewshot_automl.oracle.oracle import tried
from fewshot_automl.oracle.part import Part, evenly, fill
from fewshot_automl.oracle.sampling import fresh
from fewshot_automl.outcome import History
from fewshot_automl.space import Choice, Config, Space

POOL = 128
"""Untried Sobol points among which the least tried options are looked for."""


@dataclass(frozen=True, slots=True)
class SobolOracle:
    """Walks along a scrambled Sobol sequence, least tried options first.

    The sequence belongs to the seed: with one seed for a whole study the numeric
    dimensions are covered evenly across calls. A sequence decoded into few options
    may still leave one out for long, so of the next `POOL` untried points the one is
    taken whose options were tried least (those of the trials in the space, running
    ones included); ties keep the order of the sequence.

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
        within: Part | None = None,
    ) -> list[Config]:
        """Return up to `n` Configs that fill the widest gaps of the history."""
        part, seen = space if within is None else within, tried(history)
        points = evenly(part, seed, 2 * (len(history) + n + POOL))
        if isinstance(part, Space):
            space = part
        pool = fresh(points, seen, n + POOL)
        counts = _option_counts(space, seen)
        chosen: list[Config] = []
        while pool and len(chosen) < n:
            config = min(pool, key=lambda c: _excess(space, c, counts))
            pool.remove(config)
            chosen.append(config)
            counts.update(_options(space, config))
        return fill(part, chosen, seen, n, seed)


def _options(space: Space, config: Config) -> list[tuple[str, str]]:
    return [
        (dimension.name, config.text(dimension.name))
        for dimension in space.dimensions
        if isinstance(dimension, Choice) and dimension.name in config
    ]


def _option_counts(space: Space, seen: set[Config]) -> Counter[tuple[str, str]]:
    return Counter(option for config in seen for option in _options(space, config))


def _excess(space: Space, config: Config, counts: Counter[tuple[str, str]]) -> int:
    """Return how much more its options were tried than the least tried ones."""
    excess = 0
    for name, option in _options(space, config):
        choice = space[name]
        assert isinstance(choice, Choice)
        least = min(counts[name, other] for other in choice.options)
        excess += counts[name, option] - least
    return excess
