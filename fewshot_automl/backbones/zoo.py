"""The zoo: every card that is known, shipped ones and the user's own, and its check."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from packaging.licenses import (
    InvalidLicenseExpression,
    canonicalize_license_expression,
)

from fewshot_automl.backbones import weights
from fewshot_automl.backbones.card import (
    INPUTS,
    Card,
    ImageInput,
    PackageSource,
    read_card,
)
from fewshot_automl.backbones.weights import CARD_FILE
from fewshot_automl.backbones.zoo_folders import shipped_folder, user_folders
from fewshot_automl.errors import CardError, unknown_name


def card_files(folder: Path) -> list[Path]:
    """Return the card files of a zoo folder.

    They are ``id.toml``, directly in it or in a folder for the modality, and
    ``id/card.json`` beside weights.
    """
    found = [*folder.glob("*.toml"), *folder.glob("*/*.toml")]
    return sorted(found) + sorted(folder.glob(f"*/{CARD_FILE}"))


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
                cards.append(read_card(path))
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

    def cards(self, modality: str | None = None) -> tuple[Card, ...]:
        """Return the cards of a modality, best prior first; None: of all."""
        return tuple(c for c in self if modality is None or c.modality == modality)

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
    problems: list[str] = []
    cards: list[Card] = []
    if folders is None:
        folders = (shipped_folder(), *user_folders())
    for path in (path for folder in folders for path in card_files(folder)):
        try:
            card = read_card(path)
        except CardError as error:
            problems.append(str(error))
            continue
        if path.name == CARD_FILE and card.id in (known.id for known in cards):
            continue  # weights for a card of an earlier folder
        cards.append(card)
        home = path.parent.name
        if path.suffix == ".toml" and home in INPUTS and home != card.modality:
            problems.append(
                f"{path}: modality must be its folder's {home!r}, "
                f"got {card.modality!r}."
            )
    problems += [problem for card in cards for problem in _problems(card)]
    try:
        Zoo(cards)
    except CardError as error:
        problems.append(str(error))
    count = Counter(card.modality for card in cards if card.is_default)
    for modality in dict.fromkeys(card.modality for card in cards):
        if count[modality] != 1:
            problems.append(
                f"Modality {modality!r} must have one default, got {count[modality]}."
            )
    return problems


def _problems(card: Card) -> Iterable[str]:
    if card.is_licensed:
        try:
            written = str(canonicalize_license_expression(card.license))
        except InvalidLicenseExpression:
            written = "an SPDX expression, or as 'unconfirmed: why'"
        if written != card.license:
            yield (
                f"{card.id}: license must be written {written!r}, got {card.license!r}."
            )
    for source in card.sources:
        extras = source.extras if isinstance(source, PackageSource) else ()
        names = [extra.to for extra in extras]
        if len(set(names)) < len(names):
            yield f"{card.id}: extras must have names of their own, got {names}."
    recipe = card.input
    if isinstance(recipe, ImageInput) and min(recipe.std) <= 0:
        yield f"{card.id}: std must be above 0, got {recipe.std}."
