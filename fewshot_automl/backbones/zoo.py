"""The zoo: every card that is known, shipped ones and the user's own."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from fewshot_automl.backbones import weights
from fewshot_automl.backbones.card import Card, Modality, from_json, read_card
from fewshot_automl.backbones.zoo_folders import shipped_folder, user_folders
from fewshot_automl.errors import CardError, unknown_name

CARD_FILE = "card.json"
"""Name of the card in a folder of weights."""


def card_files(folder: Path) -> list[Path]:
    """Return the card files of a zoo folder.

    They are ``id.toml``, directly in it or in a folder for the modality, and
    ``id/card.json`` beside weights.
    """
    found = [*folder.glob("*.toml"), *folder.glob("*/*.toml")]
    return sorted(found) + sorted(folder.glob(f"*/{CARD_FILE}"))


def read_card_file(path: Path) -> Card:
    """Read one of `card_files`.

    Raises:
        CardError: If it is wrong, or is not named as its card is.
    """
    if path.suffix == ".toml":
        return read_card(path)
    try:
        card = from_json(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(f"{path} must be readable, got {error}.") from error
    if card.id != path.parent.name:
        raise CardError(
            f"{path}: id must be the folder's name {path.parent.name!r}, "
            f"got {card.id!r}. Rename one of them."
        )
    return card


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
    def load(cls, folders: Sequence[Path]) -> "Zoo":
        """Read every card of some folders; those that do not exist are empty.

        A ``card.json`` beside weights whose id an earlier folder has is no second
        card: the folder holds weights for that one.

        Raises:
            CardError: If a card is wrong or an id appears twice.
        """
        cards: list[Card] = []
        for path in (path for folder in folders for path in card_files(folder)):
            known = {card.id for card in cards}
            if path.name != CARD_FILE or path.parent.name not in known:
                cards.append(read_card_file(path))
        return cls(cards)

    @classmethod
    def shipped(cls) -> "Zoo":
        """Read the cards that come with fewshot_automl, and no others."""
        return cls.load([shipped_folder()])

    @classmethod
    def known(cls) -> "Zoo":
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
