"""Which Configs there are: method, backbone, and each method's dimensions."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from fewshot_automl.adaptation.method import Method, Profile
from fewshot_automl.adaptation.table import METHODS, method
from fewshot_automl.backbones.card import Card
from fewshot_automl.errors import SpaceError
from fewshot_automl.space import Choice, Dimension, Space, When


def space_for(
    profile: Profile, cards: Sequence[Card], methods: Sequence[str] | None = None
) -> Space:
    """Return the search space of a problem.

    Backbones of another modality are left out, as are methods that do not fit; only
    those that are named must fit.

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
        if not row.suits(profile.task) or (row.needs_backbone and not fitting)
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
