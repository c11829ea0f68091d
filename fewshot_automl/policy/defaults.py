"""What is known to be worth trying first, by method."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol, runtime_checkable

from fewshot_automl.space import Choice, Config, Space, Value

FIRST_TRAINED: Final = ("contrastive", "partial_freeze")
"""Training methods that come first: both losses on whole blocks. LoRA costs as much and
trains less; where two trials are all that fits, these differ most."""
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
        ...

    @property
    def trains(self) -> bool:
        """Return whether it trains by gradient steps."""
        ...

    @property
    def needs_backbone(self) -> bool:
        """Return whether it reads a backbone's features."""
        ...

    @property
    def rung_zero(self) -> tuple[Mapping[str, Value], ...]:
        """Return the values with which it is tried on every backbone in rung 0."""
        ...

    @property
    def rung_zero_best(self) -> tuple[Mapping[str, Value], ...]:
        """Return those with which it is then tried on the best backbone alone."""
        ...


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

    Baselines, then the cheap methods on each backbone: a floor that the winner must
    beat, and a score of every backbone. Methods that the space has not are left out.

    Args:
        space: Where they must lie.
        methods: Every method's row.
        backbones: Those whose features can be afforded, in order.
    """
    cheap = _cheap(space, methods)
    plain = [
        config
        for row in cheap
        if not row.needs_backbone
        for config in _configs(space, row, row.rung_zero, None)
    ]
    seen = [
        config
        for backbone in backbones
        for row in cheap
        if row.needs_backbone
        # A kind of target may have none of the heads that are named there.
        for config in _configs(space, row, row.rung_zero, backbone)
        or _configs(space, row, ({},), backbone)
    ]
    return [*plain, *seen]


def on_best_backbone(
    space: Space, methods: Iterable[Method], backbone: str
) -> list[Config]:
    """Return what rung 0 tries at last, on the backbone that looks best."""
    return [
        config
        for row in _cheap(space, methods)
        if row.needs_backbone
        for config in _configs(space, row, row.rung_zero_best, backbone)
    ]


def training_methods(space: Space, methods: Iterable[Method]) -> list[str]:
    """Return the methods of a space that train, in the order of trying."""
    known = options(space, "method")
    names = [row.name for row in methods if row.trains and row.name in known]
    first = [name for name in FIRST_TRAINED if name in names]
    return first + [name for name in names if name not in first]


def ladder(space: Space, method: str, backbone: str, examples: int) -> list[Config]:
    """Return a training method's default on a backbone, at falling cost.

    The first form that can be afforded is the one to try. With few examples it starts
    lower: no training should see an example much more than `VISITS` times.
    """
    enough = [steps * batch >= VISITS * examples for _, steps, batch in LADDER]
    start = max(enough[:SHORTER_RUNGS].count(True) - 1, 0)
    rungs = [
        space.default(
            method=method,
            backbone=backbone,
            **{
                name: value
                for name, value in zip(RUNG, values, strict=True)
                if name in space and space[name].contains(value)
            },
        )
        for values in LADDER[start:]
    ]
    return list(dict.fromkeys(rungs))


def is_shorter(config: Config, rungs: Sequence[Config]) -> bool:
    """Return whether a rung trains as much of the backbone as the first of its ladder.

    It may do so in fewer and smaller steps.
    """
    share = "frozen_fraction"
    return config.get(share, 0.0) == rungs[0].get(share, 0.0)


def _cheap(space: Space, methods: Iterable[Method]) -> list[Method]:
    known = options(space, "method")
    return [row for row in methods if not row.trains and row.name in known]


def _configs(
    space: Space,
    row: Method,
    variants: Iterable[Mapping[str, Value]],
    backbone: str | None,
) -> list[Config]:
    """Return a method's variants that lie in a space that may have been narrowed."""
    place = {} if backbone is None else {"backbone": backbone}
    return list(
        dict.fromkeys(
            space.default(**{**values, **place, "method": row.name})
            for values in variants
            if all(n in space and space[n].contains(v) for n, v in values.items())
        )
    )
