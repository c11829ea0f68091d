"""Ways to draw Configs from a space: at random, evenly, nearby, and one after all."""

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import lru_cache

import numpy as np

from fewshot_automl.space import Choice, Config, Dimension, Float, Space, Value

Allows = Callable[[Config], bool] | None
"""Says of a Config whether it may be suggested; None allows all."""

FLOAT_POINTS = 4096
"""How many values of a Float are walked through before it counts as exhausted."""
MUTATION_SCALES = (0.03, 0.1, 0.3)
"""Standard deviations of a numeric mutation, in shares of the range."""
WALKED = 10_000
"""Configs at most that are walked through where draws find nothing allowed."""


def random_configs(space: Space, seed: int | list[int]) -> Iterator[Config]:
    """Yield independent draws without end, uniform in the unit cube."""
    generator = np.random.default_rng(seed)
    while True:
        yield space.decode(generator.random(len(space.dimensions)))


def sobol_configs(space: Space, seed: int | list[int], count: int) -> Iterator[Config]:
    """Yield at least `count` Configs that cover the space evenly, repeats included.

    Source:
        Owen-scrambled Sobol points: Owen, J. Complexity 1998, as in `scipy.stats.qmc`.
    """
    if not space.dimensions:
        yield Config.of({})
        return
    from scipy.stats import qmc  # takes half a second

    generator = np.random.default_rng(seed)
    engine = qmc.Sobol(len(space.dimensions), scramble=True, rng=generator)
    for unit in engine.random_base2(max(count - 1, 1).bit_length()):
        yield space.decode(unit)


def neighbours(
    space: Space, config: Config, generator: np.random.Generator
) -> Iterator[Config]:
    """Yield Configs near one without end: each differs in one dimension.

    Dimensions that become active by the change are drawn at random.
    """
    start, active = space.encode(config), space.active_mask(config)
    ends = [(d.decode(0.0), d.decode(1.0)) for d in space.dimensions]
    varies = np.array([low != high for low, high in ends])
    places = np.flatnonzero(active & varies)
    while places.size:
        unit = np.where(active, start, generator.random(len(start)))
        index = int(generator.choice(places))
        unit[index] = _mutated(space.dimensions[index], unit[index], generator)
        yield space.decode(unit)


def all_configs(
    space: Space, index: int = 0, values: dict[str, Value] | None = None
) -> Iterator[Config]:
    """Yield every Config of a space once; a Float gives `FLOAT_POINTS` values.

    Args:
        space: All of it.
        index: Of the first dimension that is still free.
        values: Of those before it.
    """
    values = values or {}
    if index == len(space.dimensions):
        yield Config.of(values)
        return
    dimension = space.dimensions[index]
    if not space.is_active(dimension, values):
        yield from all_configs(space, index + 1, values)
        return
    options: Iterable[Value]
    if isinstance(dimension, Choice):
        options = dimension.options
    elif isinstance(dimension, Float):
        places = np.linspace(0.0, 1.0, FLOAT_POINTS).tolist()
        options = dict.fromkeys(map(dimension.decode, places))
    else:
        options = range(dimension.low, dimension.high + 1)
    for value in options:
        yield from all_configs(space, index + 1, {**values, dimension.name: value})


@lru_cache(maxsize=4)
def all_of_few(space: Space, most: int) -> tuple[Config, ...] | None:
    """Return every Config of a space, None where it has more than `most`."""
    everything = tuple(itertools.islice(all_configs(space), most + 1))
    return everything if len(everything) <= most else None


def fresh(
    configs: Iterable[Config], seen: Collection[Config], allows: Allows, most: int
) -> list[Config]:
    """Return the first `most` allowed Configs that are not in `seen`, each once."""
    kept = dict.fromkeys(config for config in configs if config not in seen)
    allowed = kept if allows is None else filter(allows, kept)
    return list(itertools.islice(allowed, most))


def fill(
    space: Space, seen: Collection[Config], allows: Allows, n: int, seed: int
) -> list[Config]:
    """Return `n` untried Configs, as long as the space has more that is allowed.

    Random draws come first. Where they find too little, the space is small, or little
    of it is allowed; then it is walked through from end to end.
    """
    draws = itertools.islice(random_configs(space, [seed, len(seen)]), 64 + 16 * n)
    found = fresh(draws, seen, allows, n)
    if len(found) < n:
        walk = itertools.islice(all_configs(space), WALKED)
        found += fresh(walk, {*seen, *found}, allows, n - len(found))
    return found


def _mutated(
    dimension: Dimension, unit: float, generator: np.random.Generator
) -> float:
    if isinstance(dimension, Choice):
        count = len(dimension.options)
        here = min(math.floor(unit * count), count - 1)
        step = int(generator.integers(1, count))
        return ((here + step) % count + 0.5) / count
    scale = float(generator.choice(MUTATION_SCALES))
    place = min(max(unit, 0.0), 1.0) + scale * float(generator.standard_normal())
    folded = abs(place) % 2.0
    return folded if folded <= 1.0 else 2.0 - folded
