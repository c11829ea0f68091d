"""Which backbones a fit may use, and fetching those it must have."""

from collections.abc import Sequence
from dataclasses import dataclass

from fewshot_automl.automl.limits import Limits, broken_by_card, excess_of_card
from fewshot_automl.automl.listener import Listener
from fewshot_automl.backbones import weights
from fewshot_automl.backbones.card import Card
from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.errors import CardError, OutOfTime, UserError

NAMED: int = 4
"""Backbones that a sentence names; of more it tells the number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Available:
    """Backbones of one modality, sorted by whether their weights are here."""

    at_hand: tuple[Card, ...]
    """Those a study may search."""
    missing: tuple[Card, ...] = ()
    """Those it skips, because their weights are not here."""


def available_backbones(
    modality: str,
    names: Sequence[str] | None,
    listener: Listener,
    deadline: float | None,
    limits: Limits = (),
    is_needed: bool = True,
) -> Available:
    """Return the backbones to search, fetching named ones and the default.

    What breaks a limit by its card is left out before anything is fetched. If that is
    the default, and nothing else is at hand, the best of the others is fetched that a
    package carries.

    Args:
        modality: What an example is.
        names: Backbones the user asked for; None takes all at hand, and the
            modality's default in any case.
        listener: Told of every fetch and of what is skipped.
        deadline: `time.monotonic()` at which fetching gives up.
        limits: What the model must keep.
        is_needed: Whether a study without any backbone is pointless.

    Raises:
        UnknownNameError: If a name is not in the zoo.
        UserError: If a named backbone is of another modality, or limits allow none.
        CardError: If named weights, or any weights at all, cannot be had.
    """
    zoo = Zoo.known()
    every = zoo.cards(modality) if names is None else named_cards(zoo, names, modality)
    cards = tuple(card for card in every if not excess_of_card(card, limits))
    over = [card for card in every if card not in cards]
    here = [card for card in over if names is not None or zoo.is_at_hand(card)]
    if is_needed and over and not cards:
        raise _none_fits(here or over, limits)
    if here:
        told = [f"{card.id}, {broken_by_card(card, limits)}" for card in here]
        listener.say(f"Left out, over a limit: {_few(told, '; ')}.")
    at_hand = [card for card in cards if zoo.is_at_hand(card)]
    for card in cards if names is not None else _wanted(cards, at_hand):
        if card not in at_hand:
            try:
                listener.say(
                    f"Fetching the weights of {card.id} (once; they are kept)."
                )
                weights.get(
                    card,
                    progress=lambda step: listener.say(f"  {step}"),
                    deadline=deadline,
                )
            except (CardError, OutOfTime) as error:
                if names is not None or not at_hand:
                    raise
                listener.say(f"Backbone {card.id} is left out: {error}")
            else:
                at_hand.append(card)
    missing = tuple(card for card in cards if card not in at_hand)
    if missing:
        listener.say(
            f"Skipped, weights not at hand: {_few([card.id for card in missing])}. "
            "Get them with: fewshot zoo get ID"
        )
    if is_needed and over and not at_hand:
        raise _none_fits(here or over, limits)
    return Available(at_hand=tuple(at_hand), missing=missing)


def named_cards(zoo: Zoo, names: Sequence[str], modality: str) -> tuple[Card, ...]:
    """Return the cards of these names, each once.

    Raises:
        UnknownNameError: If a name is not in the zoo.
        UserError: If a backbone is of another modality.
    """
    cards = tuple(dict.fromkeys(zoo[name] for name in names))
    for card in cards:
        if card.modality != modality:
            raise UserError(
                f"Backbones must be for {modality}, got {card.id!r} for "
                f"{card.modality}. List them with: fewshot zoo"
            )
    return cards


def _wanted(cards: Sequence[Card], at_hand: Sequence[Card]) -> list[Card]:
    """Return the default, or the next best where limits leave nothing at hand."""
    default = [card for card in cards if card.is_default]
    carried = [c for c in cards if c.is_embedded]
    if default or at_hand or not carried:
        return default
    return [min(carried, key=lambda card: card.prior_rank)]


def _none_fits(cards: Sequence[Card], limits: Limits) -> UserError:
    """Return the error for limits that no backbone keeps; it names the smallest."""
    smallest = min(cards, key=lambda card: excess_of_card(card, limits))
    return UserError(
        f"Limits must leave at least one backbone, got none; nearest is "
        f"{smallest.id!r} with {broken_by_card(smallest, limits)}. Loosen the limit, "
        "name smaller backbones (fewshot zoo), or search --methods without a backbone."
    )


def _few(names: Sequence[str], separator: str = ", ") -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return separator.join(names[:NAMED]) + more
