"""Cards: the facts about one backbone, read from TOML, written as JSON."""

import dataclasses
import json
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from fewshot_automl.backbones.sources import Source, kind_of, read_source
from fewshot_automl.backbones.table import Table
from fewshot_automl.errors import CardError

Modality = str
MODALITIES: tuple[Modality, ...] = ("text", "image")

TextPooling = Literal["mean", "cls", "last"]
ImagePooling = Literal["avg", "token", "map"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextInput:
    """How a text becomes tokens and tokens become one vector."""

    max_tokens: int
    """Longer texts are cut here, special tokens included."""
    pooling: TextPooling
    """Mean over tokens, first token, or last token."""
    prefix: str = ""
    """Put before every text, for example e5's ``query: ``."""
    normalize: bool = False
    """Whether the authors scale the pooled vector to length 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInput:
    """How an image becomes pixels and feature maps become one vector."""

    size: int
    """Height and width of the square the encoder sees."""
    mean: tuple[float, ...]
    """Per channel, on a scale where pixels are 0 to 1."""
    std: tuple[float, ...]
    """Per channel, on the same scale."""
    interpolation: Interpolation
    """Filter used when resizing."""
    crop_fraction: float
    """Side of the centre crop over the shorter side of the resized image."""
    pooling: ImagePooling
    """Mean over positions, the class token, or the encoder's attention pooling."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Facts about one backbone; no weights, no code."""

    id: str
    """Our name; the file has the same."""
    family: str
    """The loader: ``timm`` or ``transformers``; a row of `load.LOADERS`."""
    modality: Modality
    """What an example is."""
    architecture: str
    """timm architecture name, or transformers ``model_type``."""
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """timm's keyword arguments, or a transformers configuration; may be empty when a
    ``config.json`` comes with the weights."""
    license: str
    """SPDX id, or ``unconfirmed: why``."""
    license_source: str
    """Where the licence was read."""
    paper: str
    """Reference, for example ``arXiv:1801.04381``."""
    pretraining: str
    """Pretraining data and objective in a phrase."""
    parameters: int
    """Number of weights of the encoder, without a classifier."""
    width: int
    """Length of a feature vector."""
    depth: int
    """Number of blocks, the places where a backbone can be cut."""
    flops: int
    """Floating-point operations (two per multiply-add) of one example forward."""
    flops_at: int
    """The tokens (text) or pixels a side (image) at which `flops` was counted."""
    facts_source: str
    """Where parameters, width, depth, flops and the input recipe come from."""
    input: TextInput | ImageInput
    """The input recipe."""
    blocks: str
    """Module path of the blocks, for people."""
    lora_targets: tuple[str, ...]
    """Suffixes of the module names that LoRA adapts."""
    group: str
    """Family of architectures, for example ``bert``, ``efficientnet``, ``vit``."""
    prior_rank: int
    """1 is the one we would try first within the modality."""
    prior_source: str
    """What the rank rests on."""
    is_default: bool = False
    """Whether this is the backbone of its modality when nobody says otherwise."""
    sources: tuple[Source, ...] = ()
    """Where weights come from, tried in this order after folders of the user's."""

    @property
    def descriptors(self) -> dict[str, float]:
        """Return the numbers by which the oracle compares backbones."""
        return {
            "log_parameters": math.log(self.parameters),
            "log_flops": math.log(self.flops),
            "log_width": math.log(self.width),
            "depth": float(self.depth),
            "prior": -math.log(self.prior_rank),
        }

    @property
    def is_licensed(self) -> bool:
        """Return whether the licence is confirmed."""
        return not self.license.startswith("unconfirmed")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that `from_dict` reads and that JSON can hold."""
        values = dataclasses.asdict(self)
        values["sources"] = [
            {"kind": kind_of(source), **dataclasses.asdict(source)}
            for source in self.sources
        ]
        return values

    def to_json(self) -> str:
        """Return the card as JSON, for saving inside a model folder."""
        return json.dumps(self.to_dict(), indent=2)


def _input(table: Table, modality: Modality) -> TextInput | ImageInput:
    recipe: TextInput | ImageInput
    if modality == "text":
        recipe = TextInput(
            max_tokens=table.integer("max_tokens"),
            pooling=cast(TextPooling, table.choice("pooling", ("mean", "cls", "last"))),
            prefix=table.text("prefix", "", empty=True),
            normalize=table.flag("normalize", False),
        )
    else:
        filters = ("nearest", "bilinear", "bicubic", "lanczos")
        recipe = ImageInput(
            size=table.integer("size"),
            mean=table.numbers("mean", 3),
            std=table.numbers("std", 3),
            interpolation=cast(Interpolation, table.choice("interpolation", filters)),
            crop_fraction=table.fraction("crop_fraction"),
            pooling=cast(
                ImagePooling, table.choice("pooling", ("avg", "token", "map"))
            ),
        )
    table.finish()
    return recipe


def from_dict(values: Mapping[str, Any], where: str) -> Card:
    """Return the card that a table of plain values describes.

    Args:
        values: As TOML or JSON gives them.
        where: File name for messages.

    Raises:
        CardError: If a field is missing, unknown or not allowed.
    """
    table = Table(values, where)
    modality = cast(Modality, table.choice("modality", MODALITIES))
    card = Card(
        id=table.text("id"),
        family=table.text("family"),
        modality=modality,
        architecture=table.text("architecture"),
        config=table.mapping("config"),
        license=table.text("license"),
        license_source=table.text("license_source"),
        paper=table.text("paper"),
        pretraining=table.text("pretraining"),
        parameters=table.integer("parameters"),
        width=table.integer("width"),
        depth=table.integer("depth"),
        flops=table.integer("flops"),
        flops_at=table.integer("flops_at"),
        facts_source=table.text("facts_source"),
        input=_input(table.table("input"), modality),
        blocks=table.text("blocks"),
        lora_targets=table.texts("lora_targets"),
        group=table.text("group"),
        prior_rank=table.integer("prior_rank"),
        prior_source=table.text("prior_source"),
        is_default=table.flag("is_default", False),
        sources=tuple(map(read_source, table.tables("sources"))),
    )
    table.finish()
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", card.id):
        raise table.wrong("id", "lower-case letters, digits, '.', '_' or '-'", card.id)
    if card.is_default and not card.is_licensed:
        raise table.wrong("is_default", "false where the licence is unconfirmed", True)
    return card


def from_json(text: str, where: str = "card.json") -> Card:
    """Return the card that `Card.to_json` wrote.

    Raises:
        CardError: If the text is no JSON or no card.
    """
    try:
        values = json.loads(text)
    except ValueError as error:
        raise CardError(f"{where} must be JSON, got {error}.") from error
    if not isinstance(values, dict):
        raise CardError(f"{where} must be a JSON object, got {text[:40]!r}.")
    return from_dict(values, where)


def read_card(path: Path) -> Card:
    """Read one ``<id>.toml``.

    Raises:
        CardError: Names the file, the field, what is allowed and what was found.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CardError(f"{path} must be a readable TOML file, got {error}.") from error
    card = from_dict(values, str(path))
    if card.id != path.stem:
        raise CardError(
            f"{path}: id must be the file's name {path.stem!r}, got {card.id!r}. "
            "Rename one of them."
        )
    return card
