"""Which Configs there are, and which are tried first."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from fewshot_automl.adaptation.method import Method, Profile
from fewshot_automl.adaptation.table import METHODS, method
from fewshot_automl.backbones.card import Card
from fewshot_automl.errors import SpaceError
from fewshot_automl.outcome import History
from fewshot_automl.space import Choice, Config, Dimension, Space, When
from fewshot_automl.trial.workload import is_dear

DEAR_ORDER: Final[tuple[str, ...]] = ("contrastive", "partial_freeze")
"""Dear methods that come first: both losses on whole blocks. LoRA costs as much and
trains less; where two trials are all that fits, these differ most."""
RUNG: Final = ("frozen_fraction", "steps", "batch_size")
PRIOR: Final = -1
"""Place of the zoo's prior among a card's descriptors."""
LOG_FLOPS: Final = 1
"""Place of the logarithm of an example's operations among them."""
MUCH_DEARER: Final = 4.0
"""Times the operations of another backbone from which it counts as another kind."""
LADDER: Final = (
    (0.5, 40, 32),
    (0.5, 40, 16),
    (0.5, 20, 16),
    (0.5, 10, 16),
    (0.75, 10, 16),
)
"""Frozen fraction, steps and batch size, from what we would do with time to what is
quick. Fewer and smaller steps cost little accuracy, fewer blocks cost much: with
`contrastive` on MiniLM-L6, 8 a class, the rungs with half of the blocks scored 0.83,
0.84, 0.88 and - on one draw of trec6, 0.76, 0.77, 0.75 and 0.72 on another, 0.88, 0.92,
0.92 and 0.91 on clickbait; 20 steps of 16 on a third of the blocks 0.74, 0.68 and 0.92,
20 of 32 on a sixth 0.60, which is the probe's (0.60, 0.58, 0.83). Once, by hand, on 250
test rows; trec6 and clickbait are in the benchmark."""
SHORTER_RUNGS: Final = 4
"""Rungs, from the first on, that train as much of the backbone."""
VISITS: Final = 10
"""Times that a training should see each example; more was no better."""
FIRST_HEADS: Final = ("logistic", "lda")
LAST_HEAD: Final = "rbf"
PRIOR_WEIGHT: Final = 0.02
"""Score that a backbone e times as high in the zoo's ranking is worth beforehand."""


def space_for(
    profile: Profile, cards: Sequence[Card], methods: Sequence[str] | None = None
) -> Space:
    """Return the search space: method, backbone, and each method's dimensions.

    Args:
        profile: Task and class counts.
        cards: Backbones to choose from; those of another modality are left out.
        methods: Names of methods to keep; None for all that fit the modality.

    Raises:
        UnknownNameError: If a method does not exist.
        SpaceError: If no method is left, or a named one cannot be used here.
    """
    modality = profile.task.modality
    fitting = [card for card in cards if card.modality == modality]
    rows = [method(name) for name in methods] if methods else list(METHODS.values())
    unusable = [
        row.name
        for row in rows
        if modality not in row.modalities or (row.needs_backbone and not fitting)
    ]
    rows = [row for row in rows if row.name not in unusable]
    if not rows or (methods and unusable):
        raise SpaceError(
            f"Methods must be usable on {modality} with the backbones at hand "
            f"({len(fitting)}), got {', '.join(unusable)}. Leave them out, or fetch "
            "backbones with: fewshot zoo get --defaults"
        )
    dimensions: list[Dimension] = [
        Choice(name="method", options=tuple(row.name for row in rows))
    ]
    with_backbone = tuple(row.name for row in rows if row.needs_backbone)
    if with_backbone:
        dimensions.append(_backbones(fitting, with_backbone))
    dimensions.extend(_merged(rows, profile))
    return Space(tuple(dimensions))


def _backbones(cards: Sequence[Card], methods: tuple[str, ...]) -> Choice:
    first = min(cards, key=lambda card: (not card.is_default, card.prior_rank))
    return Choice(
        name="backbone",
        options=tuple(card.id for card in cards),
        default=first.id,
        when=(When("method", methods),),
        descriptors=tuple(tuple(card.descriptors.values()) for card in cards),
    )


def _merged(rows: Sequence[Method], profile: Profile) -> Iterator[Dimension]:
    """Yield each method's dimensions once, active for all methods that share it."""
    users: dict[str, list[str]] = {}
    found: dict[str, Dimension] = {}
    for row in rows:
        for dimension in row.dimensions(profile):
            known = found.setdefault(dimension.name, dimension)
            if known != dimension:
                raise SpaceError(
                    f"Methods that share the dimension {dimension.name!r} must mean "
                    f"the same by it, got two in {users[dimension.name][0]!r} and "
                    f"{row.name!r}. Name one of them otherwise."
                )
            users.setdefault(dimension.name, []).append(row.name)
    for name, dimension in found.items():
        condition = When("method", tuple(users[name]))
        yield replace(dimension, when=(condition, *dimension.when))


def rung_zero(space: Space, backbones: Sequence[str], history: History) -> list[Config]:
    """Return the cheap Configs that every study starts with.

    Baselines, then for each backbone the probe, LDA and the prototype: a floor that
    the winner must beat, and a first look at every backbone. Once all are seen, the
    kernel head on the backbone that looks best.

    Args:
        space: From `space_for`.
        backbones: Those whose features can be afforded, cheapest first.
        history: Trials so far.
    """
    methods, heads = _options(space, "method"), _options(space, "head")
    configs = [
        space.default(method=name)
        for name in methods
        if not METHODS[name].needs_backbone
    ]
    probes = [
        {"method": "probe", "head": head} for head in FIRST_HEADS if head in heads
    ]
    for backbone in backbones:
        configs.extend(
            space.default(**values, backbone=backbone)
            for values in (*probes, {"method": "prototype"})
            if values["method"] in methods
        )
    tried = {config for config, _ in history}
    if backbones and LAST_HEAD in heads and tried.issuperset(configs):
        best = probed_backbones(space, history)[0]
        configs.append(space.default(method="probe", head=LAST_HEAD, backbone=best))
    return configs


def dear_defaults(
    space: Space, backbones: Sequence[str], examples: int
) -> list[list[Config]]:
    """Return the dear methods at default values on some backbones.

    Each method on every backbone before the next, the methods of `DEAR_ORDER` first.
    Each entry is a ladder of the same Config at falling cost; the first that can be
    afforded is the one to try.

    Args:
        space: From `space_for`.
        backbones: The most promising first.
        examples: How many are labelled.
    """
    names = _dear_names(space)
    return [
        _ladder(space, name, backbone, examples)
        for name in names
        for backbone in backbones
    ]


def reference_ladder(space: Space, examples: int) -> list[Config]:
    """Return the forms of the first dear default on the space's default backbone.

    Empty if the space has no method that trains by steps.
    """
    names = _dear_names(space)
    if not names:
        return []
    backbone = space.default(method=names[0]).text("backbone")
    return _ladder(space, names[0], backbone, examples)


def _dear_names(space: Space) -> list[str]:
    options = _options(space, "method")
    names = [name for name, row in METHODS.items() if row.is_dear and name in options]
    first = [name for name in DEAR_ORDER if name in names]
    return first + [name for name in names if name not in first]


def is_shorter(config: Config, ladder: Sequence[Config]) -> bool:
    """Return whether a rung trains as much of the backbone as the first of its ladder.

    It may do so in fewer and smaller steps.
    """
    share = "frozen_fraction"
    return config.get(share, 0.0) == ladder[0].get(share, 0.0)


def _ladder(space: Space, method: str, backbone: str, examples: int) -> list[Config]:
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


def dear_space(space: Space) -> Space | None:
    """Return the space of the methods that train by steps; None if there is none."""
    names = [name for name in _options(space, "method") if METHODS[name].is_dear]
    return space.narrow("method", names) if names else None


def probed_backbones(space: Space, history: History) -> list[str]:
    """Return the space's backbones, the most promising first, unprobed ones last.

    Promise is the best cheap score plus a little for the zoo's prior: with few
    labels the scores of two backbones often differ by less than their noise.
    """
    found = _promises(space, history)
    return sorted(
        found, key=lambda n: -(found[n].score + PRIOR_WEIGHT * found[n].prior)
    )


def undominated(names: Sequence[str], space: Space, history: History) -> list[str]:
    """Return some backbones without those that another of them beats twice.

    That is by the zoo's prior, and no worse by its best cheap score. One that costs
    much less is not beaten: it may be trained for longer.
    """
    found = _promises(space, history)
    return [
        name
        for name in names
        if not any(found[other].beats(found[name]) for other in names)
    ]


class _Promise(NamedTuple):
    """What speaks for a backbone before it is trained."""

    score: float
    """Best of a quick method, minus infinity without any."""
    prior: float
    """Of the zoo."""
    log_flops: float
    """Logarithm of what an example costs."""

    def beats(self, other: "_Promise") -> bool:
        """Return whether this is better twice, and not much dearer."""
        return (
            self.score >= other.score
            and self.prior > other.prior
            and self.log_flops - other.log_flops < math.log(MUCH_DEARER)
        )


def _promises(space: Space, history: History) -> dict[str, _Promise]:
    best: dict[str, float] = {}
    for config, outcome in history:
        cheap = "backbone" in config and not is_dear(config)
        if cheap and outcome.is_done:
            name = config.text("backbone")
            best[name] = max(best.get(name, outcome.mean), outcome.mean)
    if "backbone" not in space:
        return {}
    choice = space["backbone"]
    assert isinstance(choice, Choice)
    assert choice.descriptors is not None
    return {
        name: _Promise(best.get(name, -math.inf), row[PRIOR], row[LOG_FLOPS])
        for name, row in zip(choice.options, choice.descriptors, strict=True)
    }


def _options(space: Space, name: str) -> tuple[str, ...]:
    if name not in space:
        return ()
    dimension = space[name]
    return dimension.options if isinstance(dimension, Choice) else ()
