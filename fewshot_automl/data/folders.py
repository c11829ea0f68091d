"""Folders: one folder of images or texts for each class, or table files by split."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from fewshot_automl.cells import natural_order
from fewshot_automl.data.examples import Table
from fewshot_automl.data.files import SUFFIXES, decoded, mended, read_file
from fewshot_automl.errors import DataError
from fewshot_automl.finding import Finding, counted
from fewshot_automl.modalities import IMAGE_SUFFIXES

_NAMES: Final = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}
"""The split that a folder or file of some name holds."""
_NO_LABEL: Final = frozenset({"unlabelled", "unlabeled", "unsup"})

_LAYOUT: Final = (
    "Make one folder of images for each class (DATA/cat/1.jpg, DATA/dog/2.jpg), or of "
    "texts (DATA/cat/1.txt), or give a table: its file, not its folder."
)


def choose_split(
    found: Sequence[str], name: str, split: str | None, prefer: Sequence[str]
) -> str:
    """Return the split that is asked for by any of its names, or preferred."""
    kinds = {part: _NAMES.get(part.lower(), part) for part in found}
    asked = prefer if split is None else (_NAMES.get(split.lower(), split),)
    for kind in asked:
        for part in found:
            if split == part or kinds[part] == kind:
                return part
    if split is None and len(found) == 1:
        return found[0]
    raise DataError(
        f"Split must be one of {', '.join(found)}, got {split!r} for {name}. "
        f"Choose with split ({found[0]!r}), or pass the rows of one."
    )


def read_folder(root: Path, split: str | None, prefer: tuple[str, ...]) -> Table:
    """Return the images under a folder, labelled by the name of their subfolder.

    Images that lie beside the class folders, or in one named ``unlabelled``, have no
    label. Hidden files are ignored; so are other files, with a note. `root` may hold
    one folder (or table file) for each split instead; of those `split` or the first
    preferred is read, and all if there is no preference.
    """
    parts = _splits(root)
    if split is None and not prefer and not any(p.is_file() for p in parts.values()):
        return _read_images(root, depth=4)
    if not parts and split is not None:
        raise DataError(
            f"Split must be a subfolder or table of '{root}', got {split!r}, and it "
            "has no splits. Leave split out."
        )
    if not parts:
        return _read_classes(root)
    part = parts[choose_split(list(parts), f"'{root}'", split, prefer)]
    others = ", ".join(repr(p.name) for p in parts.values() if p != part)
    note = f"Split: read '{part.name}' of '{root.name}'"
    note += f", not {others}." if others else "."
    table = read_file(part) if part.is_file() else _read_classes(part)
    return replace(table, notes=(note, *table.notes))


def _splits(root: Path) -> dict[str, Path]:
    """Return the path of each split, if `root` is laid out by splits."""
    folders = [p for p in _visible(root) if p.is_dir()]
    if folders and all(p.name.lower() in _NAMES for p in folders):
        found = {_NAMES[p.name.lower()]: p for p in folders if any(_folders(p))}
        if found:
            return found
    files = [p for p in _visible(root) if p.suffix.lower() in SUFFIXES and p.is_file()]
    found = {_NAMES[p.stem.lower()]: p for p in files if p.stem.lower() in _NAMES}
    has_classes = any(_images(folder, 2) for folder in folders)
    return {} if has_classes else found


def _read_classes(root: Path) -> Table:
    """Return the examples in class folders, which must not lie in a folder more."""
    table = _read_images(root, depth=2)
    homes = {str(Path(origin).parent) for origin in table.origins}
    inner = Path(os.path.commonpath(homes))
    if len(homes) > 1 and inner != root:
        raise DataError(
            f"Folder must hold a folder for each class, got '{root}', all of whose "
            f"examples lie in '{inner}'. If its folders are the classes, give it."
        )
    return table


def _read_images(root: Path, depth: int) -> Table:
    cells: list[tuple[Path, str | None]] = [(p, None) for p in _images(root, 0)]
    empty = []
    for folder in _folders(root):
        images = _images(folder, depth)
        label = None if folder.name.lower() in _NO_LABEL else folder.name
        cells += [(path, label) for path in images]
        if not images:
            empty.append(str(folder))
    if not cells:
        return _read_texts(root, depth + 1)
    paths = {path for path, _ in cells}
    reach = (path for path in _files(root, depth + 1) if path not in paths)
    ignored = [str(path) for path in reach]
    message = f"{counted(len(ignored), 'file')} without an image suffix ignored."
    findings = Finding.any_at("ignored file", "note", message, ignored)
    message = f"{counted(len(empty), 'folder')} without images ignored."
    findings += Finding.any_at("empty folder", "note", message, empty)
    return Table(
        name=str(root),
        columns={
            "image": [p for p, _ in cells],
            "label": [label for _, label in cells],
        },
        origins=tuple(str(path) for path, _ in cells),
        is_named=False,
        target="label" if any(label for _, label in cells) else None,
        findings=tuple(findings),
    )


def _read_texts(root: Path, depth: int) -> Table:
    """Return the text files under a folder without images, labelled in the same way."""
    files = list(_files(root, depth))
    paths = [path for path in files if path.suffix.lower() == ".txt"]
    others = [str(path) for path in files if path not in paths]
    if not paths:
        got = f"only files such as '{others[0]}'" if others else f"none in '{root}'"
        raise DataError(f"Folder must hold images or texts, got {got}. {_LAYOUT}")
    tops = [path.relative_to(root).parts[0] for path in paths]
    labels = [
        None if path.parent == root or top.lower() in _NO_LABEL else top
        for path, top in zip(paths, tops, strict=True)
    ]
    message = f"{counted(len(others), 'file')} other than .txt ignored."
    table = Table(
        name=str(root),
        columns={
            "text": [decoded(path.read_bytes(), str(path)) for path in paths],
            "file": list(map(str, paths)),
            "label": labels,
        },
        origins=tuple(map(str, paths)),
        is_named=False,
        target="label" if any(labels) else None,
        findings=tuple(Finding.any_at("ignored file", "note", message, others)),
    )
    return mended(table)


def _images(folder: Path, depth: int) -> list[Path]:
    return [p for p in _files(folder, depth) if p.suffix.lower() in IMAGE_SUFFIXES]


def _files(folder: Path, depth: int) -> Iterator[Path]:
    for path in _visible(folder):
        if path.is_file():
            yield path
        elif depth > 0 and path.is_dir():
            yield from _files(path, depth - 1)


def _folders(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.is_dir()]


def _visible(folder: Path) -> list[Path]:
    hidden = (".", "__MACOSX", "Thumbs.db", "desktop.ini")
    by_name = {p.name: p for p in folder.iterdir() if not p.name.startswith(hidden)}
    return [by_name[name] for name in natural_order(by_name)]
