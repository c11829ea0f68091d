"""Cards: the facts about one backbone, read from TOML, written as JSON."""

import dataclasses
import json
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from fewshot_automl.errors import CardError

T = TypeVar("T")

WEIGHTS_FILE: Final = "model.safetensors"
CARD_FILE: Final = "card.json"
CONFIG_FILE: Final = "config.json"
TOKENIZER_FILE: Final = "tokenizer.json"

TextPooling = Literal["mean", "cls", "last"]
ImagePooling = Literal["avg", "token", "map"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Format = Literal["safetensors", "pth", "pickle"]
KeyMap = Literal["same", "in-order", "mobile-sam"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What a value must be besides its type."""

    words: str
    holds: Callable[[Any], object]


def _matches(pattern: str, words: str) -> Rule:
    return Rule(words, re.compile(pattern).fullmatch)


Text = Annotated[str, Rule("text that is not empty", str.strip)]
Count = Annotated[int, Rule("a whole number from 1 up", lambda n: n >= 1)]
Positive = Annotated[float, Rule("a number above 0", lambda x: x > 0)]
Fraction = Annotated[float, Rule("a number above 0 up to 1", lambda x: 0 < x <= 1)]
Id = Annotated[
    str,
    _matches(r"[a-z0-9][a-z0-9._-]*", "lower-case letters, digits, '.', '_' or '-'"),
]
Sha256 = Annotated[str, _matches(r"[0-9a-f]{64}", "64 lower-case hex digits")]
Commit = Annotated[str, _matches(r"[0-9a-f]{40}", "40 lower-case hex digits")]
Repo = Annotated[str, _matches(r"[^/]+/[^/]+", "owner/name")]
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
    file: Literal["model.safetensors"] = WEIGHTS_FILE
    sha256: Sha256 | None = None
    """Hash of the weight file; None: the commit vouches for it."""
    files: tuple[FileName, ...] = ()
    """Files beside the weights that must be there."""


Source = PackageSource | HubSource
SOURCES: Final = {"package": PackageSource, "hub": HubSource}
"""The kinds of `Source`, by their `kind`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextInput:
    """How a text becomes tokens and tokens become one vector."""

    max_tokens: Count
    """Longer texts are cut here, special tokens included."""
    pooling: TextPooling
    """Mean over tokens, first token, or last token."""
    prefix: str = ""
    """Put before every text, for example e5's ``query:`` and a space."""
    normalize: bool = False
    """Whether the authors scale the pooled vector to length 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInput:
    """How an image becomes pixels and feature maps become one vector."""

    size: Count
    """Height and width of the square the encoder sees."""
    mean: tuple[float, float, float]
    """Per channel, on a scale where pixels are 0 to 1."""
    std: tuple[Positive, Positive, Positive]
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
        """Return the card as JSON, for saving beside weights."""
        return json.dumps(self.to_dict(), indent=2)


def read_card(path: Path) -> Card:
    """Read a card from a TOML or JSON file.

    Raises:
        CardError: Names the file, the field, what is allowed and what was found.
    """
    parse = tomllib.loads if path.suffix == ".toml" else json.loads
    try:
        values = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        kind = path.suffix[1:].upper()
        raise CardError(
            f"{path} must be a readable {kind} file, got {error}."
        ) from error
    return from_dict(values, str(path))


def from_dict(values: Mapping[str, Any], where: str) -> Card:
    """Return the card that a table of TOML or JSON values describes."""
    if not isinstance(values, Mapping):
        raise _wrong(where, "a card", "a table", values)
    recipe = INPUTS.get(str(values.get("modality")), TextInput)
    card = read(Card, values, where, hints={"input": recipe})
    if card.is_default and not card.is_licensed:
        allowed = "false where the licence is unconfirmed"
        raise _wrong(where, "is_default", allowed, True)
    return card


def read(
    kind: type[T],
    values: Mapping[str, Any],
    where: str,
    path: str = "",
    hints: Mapping[str, Any] | None = None,
) -> T:
    """Return a dataclass filled from a table, by the types of its fields.

    A value of None counts as absent. File name and path of the table are for messages;
    hints are types of fields that depend on other fields.

    >>> read(TextInput, {"max_tokens": "256", "pooling": "mean"}, "x.toml")
    Traceback (most recent call last):
    ...
    fewshot_automl.errors.CardError: x.toml: max_tokens must be a whole number from 1 \
up, got '256'. Correct the card.
    """
    types = get_type_hints(kind, include_extras=True) | dict(hints or {})
    left = {name: value for name, value in values.items() if value is not None}
    found = {}
    for each in dataclasses.fields(kind):  # type: ignore[arg-type]
        hint, at = types[each.name], path + each.name
        if each.name in left:
            found[each.name] = _value(hint, left.pop(each.name), where, at)
        elif each.default is each.default_factory is dataclasses.MISSING:
            raise _wrong(where, at, _allowed(hint), "nothing")
    for name, value in left.items():
        raise _wrong(where, path + name, "a field that cards have", value)
    return kind(**found)


def _value(hint: Any, value: Any, where: str, at: str) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if hint == Source:
        kind = value.get("kind") if isinstance(value, Mapping) else None
        if kind not in SOURCES:
            raise _wrong(where, f"{at}.kind", f"one of {', '.join(SOURCES)}", kind)
        return read(SOURCES[kind], value, where, f"{at}.")
    if origin in (UnionType, Union):  # with None
        return _value(inner[0], value, where, at)
    if origin is tuple and isinstance(value, list | tuple):
        kinds = inner[:1] * len(value) if inner[-1] is ... else inner
        if len(value) == len(kinds):
            pairs = enumerate(zip(kinds, value, strict=True))
            return tuple(_value(k, v, where, f"{at}[{i}]") for i, (k, v) in pairs)
    elif dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return read(hint, value, where, f"{at}.")  # type: ignore[arg-type]
    elif origin is Annotated:
        if _is_of(inner[0], value) and inner[1].holds(value):
            return float(value) if inner[0] is float else value
    elif _is_of(hint, value):
        return float(value) if hint is float else value
    raise _wrong(where, at, _allowed(hint), value)


def _is_of(hint: Any, value: Any) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, int | float if hint is float else get_origin(hint) or hint)


def _allowed(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return str(inner[1].words)
    if origin is Literal:
        return f"one of {', '.join(inner)}"
    if origin in (UnionType, Union):
        return _allowed(inner[0])
    if origin is tuple:
        count = "" if inner[-1] is ... else f" of {len(inner)}"
        return f"a list{count}, each {_allowed(inner[0])}"
    names = {str: "text", float: "a number", bool: "true or false"}
    return names.get(hint, "a table")


def _wrong(where: str, name: str, allowed: str, got: object) -> CardError:
    return CardError(
        f"{where}: {name} must be {allowed}, got {got!r}. Correct the card."
    )
