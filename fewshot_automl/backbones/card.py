"""Cards: the facts about one backbone, read from TOML, written as JSON."""

import dataclasses
import json
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from fewshot_automl.backbones.table import Count, Fraction, Rule, Text, read, wrong
from fewshot_automl.errors import CardError

TextPooling = Literal["mean", "cls", "last"]
ImagePooling = Literal["avg", "token", "map"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Format = Literal["safetensors", "pth", "pickle"]
KeyMap = Literal["same", "in-order", "mobile-sam"]


def _matches(pattern: str, words: str) -> Rule:
    return Rule(words, re.compile(pattern).fullmatch)


Id = Annotated[
    str,
    _matches(r"[a-z0-9][a-z0-9._-]*", "lower-case letters, digits, '.', '_' or '-'"),
]
Sha256 = Annotated[str, _matches(r"[0-9a-f]{64}", "64 lower-case hex digits")]
Commit = Annotated[str, _matches(r"[0-9a-f]{40}", "40 lower-case hex digits")]
Repo = Annotated[str, _matches(r"[^/]+/[^/]+", "owner/name")]
Safetensors = Annotated[str, _matches(r".+\.safetensors", "a .safetensors file")]
FileName = Annotated[str, _matches(r"[^./\\][^/\\]*", "a plain file name")]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagePart:
    """One package of several whose files, joined, make one zip archive."""

    name: Text
    version: Text
    file: Text
    """Path inside the package's archive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraFile:
    """A file that belongs beside the weights, such as a tokenizer's."""

    to: FileName
    """File name beside the weights, for example ``tokenizer.json``."""
    file: Text
    """Path inside the archive."""
    sha256: Sha256
    name: Text | None = None
    """The package that holds it; None: the package of the weights."""
    version: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSource:
    """A Python package that carries the weights, taken as data, never imported."""

    kind: Literal["package"] = "package"
    name: Text
    version: Text
    """Exact version."""
    file: Text
    """Path of the weight file inside the archive (of the joined zip, with parts)."""
    sha256: Sha256
    format: Format
    """How tensors are read from the weight file."""
    key_map: KeyMap = "same"
    """How tensors get the names of the network, see `checkpoints`."""
    parts: tuple[PackagePart, ...] = ()
    """Packages whose files joined in this order are a zip that holds `file`."""
    extras: tuple[ExtraFile, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSource:
    """A repository of the Hugging Face hub; safetensors only, no remote code."""

    kind: Literal["hub"] = "hub"
    repo: Repo
    revision: Commit | None = None
    """Commit; None: nobody has pinned one, so weights are fetched only by a user who
    names a revision, whose commit is then kept beside them."""
    file: Safetensors = "model.safetensors"
    sha256: Sha256 | None = None
    """Hash of the weight file; None: the commit vouches for it."""
    files: tuple[Text, ...] = ()
    """Files beside the weights that must be there."""


Source = PackageSource | HubSource


@dataclass(frozen=True, slots=True, kw_only=True)
class TextInput:
    """How a text becomes tokens and tokens become one vector."""

    max_tokens: Count
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

    size: Count
    """Height and width of the square the encoder sees."""
    mean: tuple[float, float, float]
    """Per channel, on a scale where pixels are 0 to 1."""
    std: tuple[float, float, float]
    """Per channel, on the same scale."""
    interpolation: Interpolation
    crop_fraction: Fraction
    """Side of the centre crop over the shorter side of the resized image."""
    pooling: ImagePooling
    """Mean over positions, the class token, or the encoder's attention pooling."""


INPUTS: Mapping[str, type] = {"text": TextInput, "image": ImageInput}
"""One row a modality that backbones read."""
Modality = Annotated[str, Rule(f"one of {', '.join(INPUTS)}", INPUTS.__contains__)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Facts about one backbone; no weights, no code."""

    id: Id
    """Our name; the file has the same."""
    family: Text
    """The loader: a row of `load.LOADERS`."""
    modality: Modality
    """What an example is: a modality whose input recipe has a row in `INPUTS`."""
    architecture: Text
    """timm architecture name, or transformers ``model_type``."""
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """timm's keyword arguments, or a transformers configuration; may be empty when a
    ``config.json`` comes with the weights."""
    license: Text
    """SPDX id, or ``unconfirmed: why``."""
    license_source: Text
    paper: Text
    pretraining: Text
    """Pretraining data and objective in a phrase."""
    parameters: Count
    """Number of weights of the encoder, without a classifier."""
    width: Count
    """Length of a feature vector."""
    depth: Count
    """Number of blocks, the places where a backbone can be cut."""
    flops: Count
    """Floating-point operations (two per multiply-add) of one example forward."""
    flops_at: Count
    """The tokens (text) or pixels a side (image) at which `flops` was counted."""
    facts_source: Text
    """Where parameters, width, depth, flops and the input recipe come from."""
    input: TextInput | ImageInput
    """The input recipe."""
    blocks: str
    """Module path of the blocks, for people."""
    lora_targets: tuple[Text, ...]
    """Suffixes of the module names that LoRA adapts."""
    group: Text
    """Family of architectures, for example ``bert``, ``efficientnet``, ``vit``."""
    prior_rank: Count
    """1 is the one we would try first within the modality."""
    prior_source: Text
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

    @property
    def is_embedded(self) -> bool:
        """Return whether a Python package carries the weights."""
        return any(isinstance(source, PackageSource) for source in self.sources)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that `from_dict` reads and that JSON can hold."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """Return the card as JSON, for saving inside a model folder."""
        return json.dumps(self.to_dict(), indent=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """Weights that are at hand."""

    weights: Path
    """The safetensors file."""
    folder: Path
    """Holds the weights and the files beside them, such as ``tokenizer.json``."""
    sha256: str
    """Hash of `weights`, checked."""
    source: str
    """Where they came from, in words."""


def from_dict(values: Mapping[str, Any], where: str) -> Card:
    """Return the card that a table of plain values describes.

    Args:
        values: As TOML or JSON gives them.
        where: File name for messages.

    Raises:
        CardError: If a field is missing, unknown or not allowed.
    """
    recipe = INPUTS.get(str(values.get("modality")), TextInput)
    card = read(Card, values, where, hints={"input": recipe})
    if card.is_default and not card.is_licensed:
        raise wrong(where, "is_default", "false where the licence is unconfirmed", True)
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
    """Read ``<id>.toml``, or ``<id>/card.json`` beside weights.

    Raises:
        CardError: Names the file, the field, what is allowed and what was found.
    """
    is_toml = path.suffix == ".toml"
    try:
        text = path.read_text(encoding="utf-8")
        card = (
            from_dict(tomllib.loads(text), str(path))
            if is_toml
            else from_json(text, str(path))
        )
    except (OSError, ValueError) as error:
        if isinstance(error, CardError):
            raise
        kind = "TOML" if is_toml else "JSON"
        raise CardError(
            f"{path} must be a readable {kind} file, got {error}."
        ) from error
    name = path.stem if is_toml else path.parent.name
    if card.id != name:
        place = "file's" if is_toml else "folder's"
        raise CardError(
            f"{path}: id must be the {place} name {name!r}, got {card.id!r}. "
            "Rename one of them."
        )
    return card
