"""The zoo: every card that is known, shipped ones and the user's own, and its check."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from packaging.licenses import (
    InvalidLicenseExpression,
    canonicalize_license_expression,
)

from fewshot_automl.backbones import weights
from fewshot_automl.backbones.card import CARD_FILE, INPUTS, Card, read_card
from fewshot_automl.errors import CardError, unknown_name


def shipped_folder() -> Path:
    """Return the folder of the cards that come with fewshot_automl."""
    package = Path(__file__).parent.parent
    inside = package / "_zoo"  # in a wheel
    return inside if inside.is_dir() else package.parent / "zoo"


def _unfit(path: Path, words: str, got: str) -> CardError:
    return CardError(f"{path}: {words}, got {got!r}. Rename or move one of them.")


def _read(folders: Sequence[Path]) -> tuple[dict[str, Card], list[CardError]]:
    """Return the cards of some folders, and what is wrong with their files.

    They are ``id.toml``, directly in a folder or in one for the modality, and
    ``id/card.json`` beside weights.
    """
    cards: dict[str, Card] = {}
    wrong: list[CardError] = []
    for folder in folders:
        plain = sorted([*folder.glob("*.toml"), *folder.glob("*/*.toml")])
        for path in (*plain, *sorted(folder.glob(f"*/{CARD_FILE}"))):
            home = path.parent.name
            name = home if path.name == CARD_FILE else path.stem
            if path.name == CARD_FILE and name in cards:
                continue  # weights for a card of an earlier folder
            try:
                card = read_card(path)
                if card.id != name:
                    raise _unfit(path, f"id must be the file's name {name!r}", card.id)
                if card.id in cards:
                    raise _unfit(path, "id must be in one file", f"{name} twice")
                cards[name] = card
                if home in INPUTS and home != card.modality:
                    words = f"modality must be its folder's {home!r}"
                    raise _unfit(path, words, card.modality)
            except CardError as error:
                wrong.append(error)
    return cards, wrong


class Zoo:
    """Is an immutable collection of cards, best prior first within a modality.

    >>> zoo = Zoo.shipped()
    >>> zoo["minilm-l6"].width
    384
    """

    def __init__(self, cards: Iterable[Card]) -> None:
        """Collect cards, each with an id of its own."""
        order = sorted(
            cards, key=lambda card: (card.modality, card.prior_rank, card.id)
        )
        self._cards = {card.id: card for card in order}

    @classmethod
    def load(cls, folders: Sequence[Path]) -> "Zoo":
        """Read every card of some folders; those that do not exist are empty.

        Raises:
            CardError: If a card is wrong or an id appears twice.
        """
        cards, wrong = _read(folders)
        if wrong:
            raise wrong[0]
        return cls(cards.values())

    @classmethod
    def shipped(cls) -> "Zoo":
        """Read the cards that come with fewshot_automl, and no others."""
        return cls.load([shipped_folder()])

    @classmethod
    def known(cls) -> "Zoo":
        """Read the shipped cards and the user's own (see `weights.user_folders`)."""
        return cls.load([shipped_folder(), *weights.user_folders()])

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

    def cards(self, modality: str) -> tuple[Card, ...]:
        """Return the cards of a modality, best prior first."""
        return tuple(card for card in self if card.modality == modality)

    def defaults(self) -> tuple[Card, ...]:
        """Return the default card of each modality that has one."""
        return tuple(card for card in self if card.is_default)

    def is_at_hand(self, card: Card) -> bool:
        """Return whether a card's weights are here; cheap, and without network."""
        return weights.is_at_hand(card)


def check(folders: Sequence[Path] | None = None) -> list[str]:
    """Return one sentence for each thing that is wrong with the cards of a zoo.

    Args:
        folders: Zoo folders; None: the shipped one and the user's own.

    >>> check([shipped_folder() / "image"])
    []
    """
    if folders is None:
        folders = (shipped_folder(), *weights.user_folders())
    cards, wrong = _read(folders)
    problems = [str(error) for error in wrong]
    for card in filter(lambda card: card.is_licensed, cards.values()):
        try:
            written = str(canonicalize_license_expression(card.license))
        except InvalidLicenseExpression:
            written = "an SPDX expression, or as 'unconfirmed: why'"
        if written != card.license:
            got = f"got {card.license!r}"
            problems.append(f"{card.id}: license must be written {written!r}, {got}.")
    count = Counter(card.modality for card in cards.values() if card.is_default)
    return problems + [
        f"Modality {modality!r} must have one default, got {count[modality]}."
        for modality in dict.fromkeys(card.modality for card in cards.values())
        if count[modality] != 1
    ]
