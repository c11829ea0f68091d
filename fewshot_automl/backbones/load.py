"""From a card and its weights to a backbone, and back from a saved folder."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from fewshot_automl.backbones.anatomy import Anatomy
from fewshot_automl.backbones.assembly import WithoutDrawing, fill, freeze
from fewshot_automl.backbones.card import Card, TextInput, from_json
from fewshot_automl.backbones.hashing import file_sha256
from fewshot_automl.backbones.image_reader import ImageReader
from fewshot_automl.backbones.loaded import (
    CARD_FILE,
    HASHES_FILE,
    WEIGHTS_FILE,
    LoadedBackbone,
)
from fewshot_automl.backbones.reader import Reader
from fewshot_automl.backbones.text_reader import TextReader
from fewshot_automl.backbones.weight_cache import Located
from fewshot_automl.errors import CardError, ExportError, unknown_name

Loader = Callable[[Card, Path | None], tuple[nn.Module, Anatomy]]
"""Builds the network of a card; the path is the folder of the weights."""


def _timm(card: Card, folder: Path | None) -> tuple[nn.Module, Anatomy]:
    from fewshot_automl.backbones import mobilenet

    if mobilenet.is_here(card):
        return mobilenet.build(card, folder)
    from fewshot_automl.backbones import from_timm

    return from_timm.build(card, folder)


def _transformers(card: Card, folder: Path | None) -> tuple[nn.Module, Anatomy]:
    from fewshot_automl.backbones import from_transformers

    return from_transformers.build(card, folder)


def build(card: Card, folder: Path | None = None) -> tuple[nn.Module, Anatomy]:
    """Return the network of a card with random weights, checked against the card.

    Inside ``torch.device("meta")`` it costs next to nothing, which is how facts of
    cards are checked without their weights.

    Args:
        card: Of any family in `LOADERS`.
        folder: Where a configuration lies that the card does not hold.

    Raises:
        UnknownNameError: If the family has no row.
        CardError: If the card's width or depth is not the network's.
    """
    if card.family not in LOADERS:
        raise unknown_name("family of backbones", card.family, LOADERS, "fewshot zoo")
    module, anatomy = LOADERS[card.family](card, folder)
    for name, said, found in (
        ("width", card.width, anatomy.width),
        ("depth", card.depth, anatomy.depth),
    ):
        if said != found:
            raise CardError(
                f"{name} of card {card.id!r} must be the network's {found}, "
                f"got {said}. Correct the card."
            )
    return module, anatomy


def load(card: Card, located: Located) -> LoadedBackbone:
    """Return the backbone of a card, in eval mode with every parameter frozen.

    Args:
        card: Facts and recipe.
        located: Weights whose tensor names are the architecture's, as
            `weights.locate` finds them.

    Raises:
        CardError: If weights, tokenizer or configuration do not fit the card.
    """
    with WithoutDrawing():
        module, anatomy = build(card, located.folder)
    try:
        tensors = load_file(located.weights)
    except (OSError, SafetensorError) as error:
        raise CardError(
            f"Weights of {card.id!r} must be a readable safetensors file, got "
            f"{located.weights} ({error}). Fetch them again."
        ) from error
    fill(module, anatomy, tensors, card.id)
    freeze(module)
    reader = _reader(card, located.folder, anatomy)
    return LoadedBackbone(
        card=card,
        module=module,
        recipe=f"{reader.recipe} {_digest(card, anatomy)}",
        weights_sha256=located.sha256,
        anatomy=anatomy,
        reader=reader,
        tensor_names=frozenset(module.state_dict()),
    )


def load_saved(folder: Path) -> LoadedBackbone:
    """Return what `Backbone.save` wrote; needs no zoo, no cache and no network.

    Args:
        folder: Read, never run: safetensors and JSON only.

    Raises:
        ExportError: If a file is missing or not the one that was saved.
    """
    hashes = _checked_hashes(folder)
    card = from_json((folder / CARD_FILE).read_text(encoding="utf-8"))
    located = Located(
        weights=folder / WEIGHTS_FILE,
        folder=folder,
        sha256=hashes[WEIGHTS_FILE],
        source=f"folder {folder}",
    )
    return load(card, located)


def _checked_hashes(folder: Path) -> dict[str, str]:
    try:
        hashes = json.loads((folder / HASHES_FILE).read_text(encoding="utf-8"))
        if not isinstance(hashes, dict) or not {CARD_FILE, WEIGHTS_FILE} <= set(hashes):
            raise ValueError(f"{HASHES_FILE} without {CARD_FILE} or {WEIGHTS_FILE}")
        changed = [
            name
            for name in hashes
            if Path(name).name != name or file_sha256(folder / name) != hashes[name]
        ]
    except (OSError, ValueError) as error:
        raise ExportError(
            f"{folder} must hold a saved backbone, got {error}. Save it again."
        ) from error
    if changed:
        raise ExportError(
            f"Files in {folder} must be those that were saved, got a changed "
            f"{', '.join(changed)}. Save it again."
        )
    return hashes


def _reader(card: Card, folder: Path, anatomy: Anatomy) -> Reader:
    if isinstance(card.input, TextInput):
        return TextReader(card.input, folder, anatomy.pad_id)
    return ImageReader(card.input)


def _digest(card: Card, anatomy: Anatomy) -> str:
    """Return what shapes features besides weights and preprocessing.

    Stored features are keyed by the recipe, and two cards may read one weight file
    with another pooling or configuration.
    """
    config = card.config if anatomy.config is None else anatomy.config
    text = json.dumps([card.architecture, dict(config)], sort_keys=True, default=str)
    network = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"pooling={card.input.pooling} network={network}"


LOADERS: Mapping[str, Loader] = {
    "timm": _timm,
    "transformers": _transformers,
}
"""One row a family of backbones."""
