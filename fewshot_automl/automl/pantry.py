"""Which backbones a fit may use, and fetching those it must have."""

from collections.abc import Sequence
from dataclasses import dataclass

from fewshot_automl.automl.listener import Listener
from fewshot_automl.backbones import weights
from fewshot_automl.backbones.card import Card
from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.errors import CardError, OutOfTime, UserError
from fewshot_automl.task import Modality


@dataclass(frozen=True, slots=True, kw_only=True)
class Pantry:
    """Backbones of one modality, sorted by whether their weights are here."""

    at_hand: tuple[Card, ...]
    """Those a study may search."""
    missing: tuple[Card, ...] = ()
    """Those it skips, because their weights are not here."""


def stock(
    modality: Modality,
    names: Sequence[str] | None,
    listener: Listener,
    deadline: float | None,
) -> Pantry:
    """Return the backbones to search, fetching named ones and the default.

    Args:
        modality: What an example is.
        names: Backbones the user asked for; None takes all at hand, and the
            modality's default in any case.
        listener: Told of every fetch and of what is skipped.
        deadline: `time.monotonic()` at which fetching gives up.

    Raises:
        UnknownNameError: If a name is not in the zoo.
        UserError: If a named backbone is of another modality.
        CardError: If named weights, or any weights at all, cannot be had.
    """
    zoo = Zoo.known()
    if names is not None:
        cards = named_cards(zoo, names, modality)
        for card in cards:
            _fetch(zoo, card, listener, deadline)
        return Pantry(at_hand=cards)
    cards = zoo.cards(modality)
    at_hand = [card for card in cards if zoo.is_at_hand(card)]
    for card in cards:
        if card.is_default and card not in at_hand:
            try:
                _fetch(zoo, card, listener, deadline)
            except (CardError, OutOfTime) as error:
                if not at_hand:
                    raise
                listener.say(f"Backbone {card.id} is left out: {error}")
            else:
                at_hand.append(card)
    missing = tuple(card for card in cards if card not in at_hand)
    _say_missing(missing, listener)
    return Pantry(at_hand=tuple(at_hand), missing=missing)


def named_cards(zoo: Zoo, names: Sequence[str], modality: Modality) -> tuple[Card, ...]:
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


def _fetch(zoo: Zoo, card: Card, listener: Listener, deadline: float | None) -> None:
    if not zoo.is_at_hand(card):
        listener.say(f"Fetching the weights of {card.id} (once; they are kept).")
        weights.get(
            card,
            progress=lambda step: listener.say(f"  {step}"),
            deadline=deadline,
        )


def _say_missing(missing: Sequence[Card], listener: Listener) -> None:
    if missing:
        named = ", ".join(card.id for card in missing[:4])
        more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
        listener.say(
            f"Skipped, weights not at hand: {named}{more}. "
            "Get them with: fewshot zoo get ID"
        )
