"""The zoo: every card that is known, shipped ones and the user's own."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Self

from fewshot_automl.backbones import weights
from fewshot_automl.backbones.card import Card, Modality, read_card
from fewshot_automl.backbones.zoo_folders import shipped_folder, user_folders
from fewshot_automl.errors import CardError, unknown_name


def card_files(folder: Path) -> list[Path]:
    """Return the card files of a zoo folder: directly in it or one folder down."""
    return sorted([*folder.glob("*.toml"), *folder.glob("*/*.toml")])


class Zoo:
    """Is an immutable collection of cards, best prior first within a modality.

    >>> zoo = Zoo.shipped()
    >>> zoo["minilm-l6"].width
    384
    """

    def __init__(self, cards: Sequence[Card]) -> None:
        """Collect cards.

        Raises:
            CardError: If two have the same id.
        """
        order = sorted(
            cards, key=lambda card: (card.modality, card.prior_rank, card.id)
        )
        known: dict[str, Card] = {}
        for card in order:
            if card.id in known:
                raise CardError(
                    f"id must be a card's own, got {card.id!r} twice. Rename one."
                )
            known[card.id] = card
        self._cards: Mapping[str, Card] = MappingProxyType(known)

    @classmethod
    def load(cls, folders: Sequence[Path]) -> Self:
        """Read every card of some folders; those that do not exist are empty.

        Raises:
            CardError: If a card is wrong or an id appears twice.
        """
        return cls([read_card(path) for f in folders for path in card_files(f)])

    @classmethod
    def shipped(cls) -> Self:
        """Read the cards that come with fewshot_automl, and no others."""
        return cls.load([shipped_folder()])

    @classmethod
    def known(cls) -> Self:
        """Read the shipped cards and the user's own (see `zoo_folders`)."""
        return cls.load([shipped_folder(), *user_folders()])

    def __getitem__(self, id: str) -> Card:
        """Return one card.

        Raises:
            UnknownNameError: If there is none of this id; names the nearest.
        """
        if id not in self._cards:
            raise unknown_name("backbone", id, self._cards, "fewshot zoo")
        return self._cards[id]

    def __iter__(self) -> Iterator[Card]:
        return iter(self._cards.values())

    def __len__(self) -> int:
        return len(self._cards)

    def __contains__(self, id: object) -> bool:
        return id in self._cards

    def cards(self, modality: Modality | None = None) -> tuple[Card, ...]:
        """Return the cards of a modality, best prior first; None: of all."""
        return tuple(c for c in self if modality is None or c.modality == modality)

    def defaults(self) -> tuple[Card, ...]:
        """Return the default card of each modality that has one."""
        return tuple(card for card in self if card.is_default)

    def is_at_hand(self, card: Card) -> bool:
        """Return whether a card's weights are here; cheap, and without network."""
        return weights.is_at_hand(card)
