"""What is wrong with a zoo, all of it at once."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.licenses import (
    InvalidLicenseExpression,
    canonicalize_license_expression,
)

from fewshot_automl.backbones.card import MODALITIES, Card, ImageInput
from fewshot_automl.backbones.key_maps import KEY_MAPS
from fewshot_automl.backbones.sources import PackageSource
from fewshot_automl.backbones.zoo import Zoo, card_files, read_card_file
from fewshot_automl.backbones.zoo_folders import shipped_folder, user_folders
from fewshot_automl.errors import CardError


def _license(card: Card) -> Iterable[str]:
    if not card.is_licensed:
        return
    try:
        written = canonicalize_license_expression(card.license)
    except InvalidLicenseExpression:
        yield (
            f"{card.id}: license must be an SPDX expression or 'unconfirmed: why', "
            f"got {card.license!r}."
        )
        return
    if written != card.license:
        yield f"{card.id}: license must be written {written!r}, got {card.license!r}."


def _card(card: Card) -> Iterable[str]:
    yield from _license(card)
    for source in card.sources:
        if source.key_map not in KEY_MAPS:
            yield (
                f"{card.id}: key_map must be one of {', '.join(KEY_MAPS)}, "
                f"got {source.key_map!r}."
            )
        extras = source.extras if isinstance(source, PackageSource) else ()
        names = [extra.to for extra in extras]
        if len(set(names)) < len(names):
            yield f"{card.id}: extras must have names of their own, got {names}."
    recipe = card.input
    if isinstance(recipe, ImageInput) and min(recipe.std) <= 0:
        yield f"{card.id}: std must be above 0, got {recipe.std}."


def check(folders: Sequence[Path] | None = None) -> list[str]:
    """Return one sentence for each thing that is wrong with the cards of a zoo.

    Args:
        folders: Zoo folders; None: the shipped one and the user's own.

    >>> check([shipped_folder() / "image"])
    []
    """
    problems, cards = [], []
    if folders is None:
        folders = (shipped_folder(), *user_folders())
    for path in (path for folder in folders for path in card_files(folder)):
        try:
            cards.append(card := read_card_file(path))
        except CardError as error:
            problems.append(str(error))
            continue
        home = path.parent.name
        if path.suffix == ".toml" and home in MODALITIES and home != card.modality:
            problems.append(
                f"{path}: modality must be its folder's {home!r}, "
                f"got {card.modality!r}."
            )
    for card in cards:
        problems.extend(_card(card))
    try:
        zoo = Zoo(cards)
    except CardError as error:
        return [*problems, str(error)]
    for modality in MODALITIES:
        count = sum(card.is_default for card in zoo.cards(modality))
        if count != 1 and zoo.cards(modality):
            problems.append(
                f"Modality {modality!r} must have one default, got {count}."
            )
    return problems
