"""Where suggestions must lie: a space, or a closed list of Configs."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np

from fewshot_automl.oracle.sampling import (
    all_configs,
    mutations,
    random_configs,
    sobol_configs,
)
from fewshot_automl.space import Config, Space

Part = Space | Sequence[Config]
"""A space, or the only Configs there are (a *pool*)."""


def evenly(part: Part, seed: int | list[int], count: int) -> Iterable[Config]:
    """Return at least `count` Configs spread over a part, repeats included.

    A pool gives all it has, in random order.
    """
    if isinstance(part, Space):
        return sobol_configs(part, seed, count)
    return _shuffled(part, seed)


def at_random(part: Part, seed: int | list[int], count: int) -> Iterable[Config]:
    """Return `count` random Configs of a part, repeats included; a pool gives all."""
    if isinstance(part, Space):
        return itertools.islice(random_configs(part, seed), count)
    return _shuffled(part, seed)


def one_by_one(part: Part) -> Iterator[Config]:
    """Yield every Config of a part, from end to end."""
    return all_configs(part) if isinstance(part, Space) else iter(part)


def all_of_few(part: Part, limit: int) -> Sequence[Config] | None:
    """Return every Config of a part, None where a space has more than `limit`."""
    return _all_of_few(part, limit) if isinstance(part, Space) else part


def neighbours(
    part: Part, config: Config, generator: np.random.Generator
) -> Iterator[Config]:
    """Yield Configs near one, without end; none in a pool, which is all seen anyway."""
    return mutations(part, config, generator) if isinstance(part, Space) else iter(())


def is_inside(part: Part, config: Config) -> bool:
    """Return whether a Config lies in a part."""
    return part.contains(config) if isinstance(part, Space) else config in part


def fill(
    part: Part, chosen: list[Config], seen: set[Config], n: int, seed: int
) -> list[Config]:
    """Return `chosen`, filled up to `n` as long as the part has more.

    Random draws come first. Where they keep repeating themselves, the part is small
    and is walked through from end to end.
    """
    known = seen | set(chosen)
    filled = list(chosen)
    draws = at_random(part, [seed, len(known)], 64 + 16 * n)
    for config in itertools.chain(draws, one_by_one(part)):
        if len(filled) >= n:
            break
        if config not in known:
            known.add(config)
            filled.append(config)
    return filled[:n]


def _shuffled(pool: Sequence[Config], seed: int | list[int]) -> list[Config]:
    order = np.random.default_rng(seed).permutation(len(pool))
    return [pool[i] for i in order.tolist()]


@lru_cache(maxsize=4)
def _all_of_few(space: Space, limit: int) -> tuple[Config, ...] | None:
    everything = tuple(itertools.islice(all_configs(space), limit + 1))
    return everything if len(everything) <= limit else None
