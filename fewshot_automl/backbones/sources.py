"""Where weights come from: the source records of a card."""

from dataclasses import dataclass
from typing import Literal, cast

from fewshot_automl.backbones.table import Table

Format = Literal["safetensors", "pth", "pickle", "onnx"]
FORMATS: tuple[Format, ...] = ("safetensors", "pth", "pickle", "onnx")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagePart:
    """One package of several whose files, joined, make one zip archive."""

    name: str
    """Name of the package."""
    version: str
    """Exact version."""
    file: str
    """Path inside the package's archive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraFile:
    """A file that belongs beside the weights, such as a tokenizer's."""

    to: str
    """File name beside the weights, for example ``tokenizer.json``."""
    file: str
    """Path inside the archive."""
    sha256: str
    """Hash of the file."""
    name: str | None = None
    """The package that holds it; None: the package of the weights."""
    version: str | None = None
    """Exact version of that package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSource:
    """A Python package that carries the weights, taken as data, never imported."""

    name: str
    """Name of the package."""
    version: str
    """Exact version."""
    file: str
    """Path of the weight file inside the archive (of the joined zip, with parts)."""
    sha256: str
    """Hash of the weight file."""
    format: Format
    """How tensors are read from the weight file."""
    key_map: str = "same"
    """Row of `key_maps.KEY_MAPS` that renames tensors."""
    parts: tuple[PackagePart, ...] = ()
    """Packages whose files joined in this order are a zip that holds `file`."""
    extras: tuple[ExtraFile, ...] = ()
    """Files beside the weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSource:
    """A repository of the Hugging Face hub; safetensors only, no remote code."""

    repo: str
    """``owner/name``."""
    revision: str | None = None
    """Commit of 40 hex digits; None: resolved at first download, then locked."""
    file: str = "model.safetensors"
    """The weight file."""
    sha256: str | None = None
    """Hash of the weight file; None: recorded at first download, then obeyed."""
    files: tuple[str, ...] = ("config.json",)
    """Files beside the weights that must be there."""
    optional_files: tuple[str, ...] = ()
    """Files beside the weights that are taken if the repository has them."""
    key_map: str = "same"
    """Row of `key_maps.KEY_MAPS` that renames tensors."""


Source = PackageSource | HubSource


def _hash(table: Table, name: str, digits: int, value: str) -> str:
    if len(value) != digits or set(value) - set("0123456789abcdef"):
        raise table.wrong(name, f"{digits} lower-case hex digits", value)
    return value


def _sha256(table: Table) -> str:
    return _hash(table, "sha256", 64, table.text("sha256"))


def _part(table: Table) -> PackagePart:
    part = PackagePart(
        name=table.text("name"), version=table.text("version"), file=table.text("file")
    )
    table.finish()
    return part


def _extra(table: Table) -> ExtraFile:
    extra = ExtraFile(
        to=table.text("to"),
        file=table.text("file"),
        sha256=_sha256(table),
        name=table.optional_text("name"),
        version=table.optional_text("version"),
    )
    if "/" in extra.to or "\\" in extra.to or extra.to.startswith("."):
        raise table.wrong("to", "a plain file name", extra.to)
    if (extra.name is None) != (extra.version is None):
        raise table.wrong("version", "given together with name", extra.version)
    table.finish()
    return extra


def _package(table: Table) -> PackageSource:
    return PackageSource(
        name=table.text("name"),
        version=table.text("version"),
        file=table.text("file"),
        sha256=_sha256(table),
        format=cast(Format, table.choice("format", FORMATS)),
        key_map=table.text("key_map", "same"),
        parts=tuple(map(_part, table.tables("parts"))),
        extras=tuple(map(_extra, table.tables("extras"))),
    )


def _hub(table: Table) -> HubSource:
    repo = table.text("repo")
    if repo.count("/") != 1:
        raise table.wrong("repo", "owner/name", repo)
    revision = table.optional_text("revision")
    sha256 = table.optional_text("sha256")
    file = table.text("file", "model.safetensors")
    if not file.endswith(".safetensors"):
        raise table.wrong("file", "a .safetensors file", file)
    return HubSource(
        repo=repo,
        revision=revision and _hash(table, "revision", 40, revision),
        file=file,
        sha256=sha256 and _hash(table, "sha256", 64, sha256),
        files=table.texts("files", ("config.json",)),
        optional_files=table.texts("optional_files", ()),
        key_map=table.text("key_map", "same"),
    )


def read_source(table: Table) -> Source:
    """Read one ``[[sources]]`` table; its ``kind`` is package or hub.

    Raises:
        CardError: If a field is missing, unknown or not allowed.
    """
    kind = table.choice("kind", ("package", "hub"))
    source: Source = _package(table) if kind == "package" else _hub(table)
    table.finish()
    return source


def kind_of(source: Source) -> str:
    """Return ``package`` or ``hub``, the word cards use."""
    return "package" if isinstance(source, PackageSource) else "hub"
