"""What is known to be worth trying first, by method."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, Protocol, runtime_checkable

from fewshot_automl.space import Choice, Config, Space, Value

RUNG: Final = ("frozen_fraction", "steps", "batch_size")
LADDER: Final = (
    (0.5, 40, 32),
    (0.5, 40, 16),
    (0.5, 20, 16),
    (0.5, 10, 16),
    (0.75, 10, 16),
)
"""Values of `RUNG`, from what we would do with time to what is quick. Fewer and smaller
steps cost little accuracy, fewer blocks cost much: `contrastive` on MiniLM-L6, 8 labels
a class, scored on trec6 0.83, 0.84, 0.88 and - with half of the blocks, 0.74 with 20
steps on a third of them, and 0.60 on a sixth, which is the probe's (once, by hand)."""
SHORTER_RUNGS: Final = 4
"""Rungs, from the first on, that train as much of the backbone."""
VISITS: Final = 10
"""Times that a training should see each example; more was no better."""


@runtime_checkable
class Method(Protocol):
    """What the opening asks of a method's row."""

    @property
    def name(self) -> str:
        """Return its option of the dimension `method`."""

    @property
    def trains(self) -> bool:
        """Return whether it trains by gradient steps."""

    @property
    def needs_backbone(self) -> bool:
        """Return whether it reads a backbone's features."""

    @property
    def rung_zero(self) -> tuple[Mapping[str, Value], ...]:
        """Return the values with which it is tried on every backbone in rung 0."""

    @property
    def rung_zero_best(self) -> tuple[Mapping[str, Value], ...]:
        """Return those with which it is then tried on the best backbone alone."""


def options(space: Space, name: str) -> tuple[str, ...]:
    """Return the options of a choice; none where the space has it not."""
    if name not in space:
        return ()
    dimension = space[name]
    return dimension.options if isinstance(dimension, Choice) else ()


def rung_zero(
    space: Space, methods: Iterable[Method], backbones: Sequence[str]
) -> list[Config]:
    """Return the cheap Configs that every study starts with.

    Baselines, then the cheap methods on each backbone, in order: a floor that the
    winner must beat, and a score of every backbone.
    """
    cheap = [row for row in methods if not row.trains]
    found: list[Config] = []
    for row in cheap:
        if not row.needs_backbone:
            found += _configs(space, row, row.rung_zero)
    for name in backbones:
        for row in cheap:
            if row.needs_backbone:
                found += _configs(space, row, row.rung_zero, backbone=name)
    return found


def on_best_backbone(
    space: Space, methods: Iterable[Method], backbone: str
) -> list[Config]:
    """Return what rung 0 tries at last, on the backbone that looks best."""
    found: list[Config] = []
    for row in methods:
        if row.needs_backbone and not row.trains:
            found += _configs(space, row, row.rung_zero_best, backbone=backbone)
    return found


def training_methods(space: Space, methods: Iterable[Method]) -> list[str]:
    """Return the methods of a space that train, in the order they are given in."""
    known = options(space, "method")
    return [row.name for row in methods if row.trains and row.name in known]


@lru_cache(maxsize=1024)
def ladder(
    space: Space, method: str, backbone: str, examples: int
) -> tuple[Config, ...]:
    """Return a training method's default on a backbone, at falling cost.

    The first form that can be afforded is the one to try. With few examples it starts
    lower: no training should see an example much more than `VISITS` times.
    """
    enough = [steps * batch >= VISITS * examples for _, steps, batch in LADDER]
    start = max(enough[:SHORTER_RUNGS].count(True) - 1, 0)
    found: list[Config] = []
    for values in LADDER[start:]:
        rung = dict(zip(RUNG, values, strict=True))
        known = {n: v for n, v in rung.items() if n in space and space[n].contains(v)}
        found.append(space.default(method=method, backbone=backbone, **known))
    return tuple(dict.fromkeys(found))


def whole(rungs: Sequence[Config]) -> list[Config]:
    """Return the rungs of a ladder that train as much of the backbone as the first."""
    share = "frozen_fraction"
    return [c for c in rungs if c.get(share, 0.0) == rungs[0].get(share, 0.0)]


def _configs(
    space: Space, row: Method, variants: Iterable[Mapping[str, Value]], **place: Value
) -> list[Config]:
    """Return a method's variants that lie in a space that may have been narrowed."""
    if row.name not in options(space, "method"):
        return []
    found = [
        space.default(**{**values, **place, "method": row.name})
        for values in variants
        if all(name in space and space[name].contains(v) for name, v in values.items())
    ]
    return list(dict.fromkeys(found))
