"""Ways to draw Configs from a space: at random, evenly, nearby, and one after all."""

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator

import numpy as np

from fewshot_automl.space import Choice, Config, Float, Space, Value

Allows = Callable[[Config], bool] | None
"""Says of a Config whether it may be suggested; None allows all."""

FLOAT_POINTS = 4096
"""How many values of a Float are walked through before it counts as exhausted."""
MUTATION_SCALES = (0.03, 0.1, 0.3)
"""Standard deviations of a numeric mutation, in shares of the range."""
WALKED = 10_000
"""Configs at most that are walked through where draws find nothing allowed."""


def sobol_configs(space: Space, seed: int | list[int], count: int) -> Iterator[Config]:
    """Yield at least `count` Configs that cover the space evenly, repeats included."""
    if not space.dimensions:
        yield Config.of({})
        return
    from scipy.stats import qmc  # takes half a second

    engine = qmc.Sobol(len(space.dimensions), rng=np.random.default_rng(seed))
    for unit in engine.random_base2(max(count - 1, 1).bit_length()):
        yield space.decode(unit)


def neighbours(
    space: Space, config: Config, generator: np.random.Generator, count: int
) -> Iterator[Config]:
    """Yield Configs near one: each differs in one dimension, or not at all.

    Dimensions that become active by the change are drawn at random.
    """
    start, active = space.encode(config), space.active_mask(config)
    for _ in range(count if active.any() else 0):
        unit = np.where(active, start, generator.random(len(start)))
        index = int(generator.choice(np.flatnonzero(active)))
        if isinstance(space.dimensions[index], Choice):
            unit[index] = generator.random()
        else:
            scale = generator.choice(MUTATION_SCALES)
            folded = abs(unit[index] + scale * generator.standard_normal()) % 2.0
            unit[index] = min(folded, 2.0 - folded)
        yield space.decode(unit)


def all_configs(
    space: Space, index: int = 0, values: dict[str, Value] | None = None
) -> Iterator[Config]:
    """Yield every Config of a space with these values before a dimension's index."""
    values = values or {}
    if index == len(space.dimensions):
        yield Config.of(values)
        return
    dimension = space.dimensions[index]
    options: Iterable[Value | None] = [None]
    if space.is_active(dimension, values):
        if isinstance(dimension, Choice):
            options = dimension.options
        elif isinstance(dimension, Float):
            places = np.linspace(0.0, 1.0, FLOAT_POINTS).tolist()
            options = dict.fromkeys(map(dimension.decode, places))
        else:
            options = range(dimension.low, dimension.high + 1)
    for value in options:
        more = {} if value is None else {dimension.name: value}
        yield from all_configs(space, index + 1, {**values, **more})


def fresh(
    configs: Iterable[Config], seen: Collection[Config], allows: Allows, most: int
) -> list[Config]:
    """Return the first `most` allowed Configs that are not in `seen`, each once."""
    known, found = set(seen), list[Config]()
    for config in configs:
        if len(found) == most:
            break
        if config not in known and (allows is None or allows(config)):
            found.append(config)
        known.add(config)
    return found


def fill(
    space: Space, seen: Collection[Config], allows: Allows, n: int, seed: int
) -> list[Config]:
    """Return `n` untried Configs, as long as the space has more that is allowed.

    Where random draws find too little it is walked through from end to end.
    """
    generator = np.random.default_rng([seed, len(seen)])
    units = generator.random((64 + 16 * n, len(space.dimensions)))
    found = fresh(map(space.decode, units), seen, allows, n)
    if len(found) < n:
        walk = itertools.islice(all_configs(space), WALKED)
        found += fresh(walk, {*seen, *found}, allows, n - len(found))
    return found
