"""Folders: one folder of images or texts for each class, or table files by split."""

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePath
from typing import Final

from fewshot_automl.cells import natural_order
from fewshot_automl.data.examples import Table
from fewshot_automl.data.files import SUFFIXES, decoded, mended, mended_table, read_file
from fewshot_automl.errors import DataError
from fewshot_automl.finding import Finding, Severity, counted
from fewshot_automl.modalities import IMAGE_SUFFIXES

_NAMES: Final = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}
"""The split that a folder or file of some name holds."""
_NO_LABEL: Final = frozenset({"unlabelled", "unlabeled", "unsup"})
_TEXTS: Final = frozenset({".txt"})
_HIDDEN: Final = (
    *(".", "__macosx", "__pycache__", "@eadir", "@recycle", "#recycle", "$recycle.bin"),
    *("#snapshot", "lost+found", "system volume information", "_vti_"),
    *("thumbs.db", "ehthumbs", "desktop.ini"),
)
"""How names begin, in small letters, that programs make and people do not see."""
_COMPANIONS: Final = frozenset(
    [".csv", ".html", ".json", ".log", ".md", ".pdf", ".txt", ".xml", ".yaml", ".yml"]
)
"""Suffixes of files that lie beside images and are known to be none."""


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

    If there are none, texts (``.txt``) are. Those beside the class folders, or in one
    named ``unlabelled``, have no label. Of folders or table files for splits, `split`
    or the first preferred is read, and all if there is no preference.
    """
    suffixes = IMAGE_SUFFIXES if _images(root) else _TEXTS
    parts = _splits(root, suffixes)
    if split is None and not prefer and not any(p.is_file() for p in parts.values()):
        return _read_images(root, suffixes)
    if not parts and split is not None:
        raise DataError(
            f"Split must be a subfolder or table of '{root}', got {split!r}, and it "
            "has no splits. Leave split out."
        )
    if not parts:
        return _read_classes(root, suffixes)
    part = parts[choose_split(list(parts), f"'{root}'", split, prefer)]
    others = ", ".join(repr(p.name) for p in parts.values() if p != part)
    note = f"Split: read '{part.name}' of '{root.name}'"
    note += f", not {others}." if others else "."
    is_table = part.is_file()
    table = read_file(part) if is_table else _read_classes(part, suffixes)
    beside = [p for p in _entries(root) if p not in parts.values() and not is_table]
    places = [f"{shown(p)}: {counted(len(_images(p)), 'image')}" for p in beside]
    message = f"{counted(len(beside), 'entry', 'entries')} beside the splits left out."
    findings = Finding.any_at("beside splits", "warning", message, places)
    findings = [*table.findings, *findings]
    return replace(table, notes=(note, *table.notes), findings=tuple(findings))


def _splits(root: Path, suffixes: Collection[str]) -> dict[str, Path]:
    """Return the folder or table of each split by name, if `root` is laid out so.

    Folders are splits if they are named so and hold class folders, and cannot be
    classes themselves: there are several, or what lies beside them holds no images,
    or folders of the same names.
    """
    holds = partial(_images, suffixes=suffixes)
    folders = [p for p in _entries(root) if p.is_dir()]
    if any(p.name.lower() in _NAMES for p in folders):
        held = {p: {q.name for q in _entries(p) if q.is_dir()} for p in folders}
        named = [p for p in folders if p.name.lower() in _NAMES and held[p]]
        others = [p for p in folders if p.name.lower() not in _NAMES and holds(p)]
        is_alike = any(held[p] & held[q] for p in others for q in named)
        if named and (len(named) > 1 or not others or is_alike):
            return {p.name: p for p in named}
    found = dict[str, Path]()
    for p in _entries(root):
        if p.suffix.lower() in SUFFIXES and p.stem.lower() in _NAMES and p.is_file():
            found[p.name if p.stem in found else p.stem] = p
    return {} if found and any(map(holds, folders)) else found


def _read_classes(root: Path, suffixes: Collection[str]) -> Table:
    """Return the examples in class folders, which must not lie in a folder more."""
    table = _read_images(root, suffixes)
    homes = {str(Path(origin).parent) for origin in table.origins}
    inner = Path(os.path.commonpath(homes))
    if len(homes) > 1 and inner != root:
        raise DataError(
            f"Folder must hold a folder for each class, got '{root}', all of whose "
            f"examples lie in '{inner}'. If its folders are the classes, give it."
        )
    return table


def _read_images(root: Path, suffixes: Collection[str]) -> Table:
    left_out: dict[str, list[str]] = defaultdict(list)
    cells: list[tuple[Path, str | None]] = []
    for entry in sorted(_entries(root, left_out), key=Path.is_dir):  # files first
        images = _images(entry, left_out, suffixes)
        is_class = entry.is_dir() and entry.name.lower() not in _NO_LABEL
        cells += [(path, mended(entry.name) if is_class else None) for path in images]
        if entry.is_dir() and not images:
            left_out["empty folder"].append(shown(entry))
    findings = _findings(left_out, "a text" if suffixes is _TEXTS else "an image")
    if not cells:
        said = " ".join(["", *(f"{f.message}{f.places()}" for f in findings)])
        raise DataError(
            f"Folder must hold images or texts, got none in '{shown(root)}'.{said} "
            "Make one folder of images for each class (DATA/cat/1.jpg, DATA/dog/2.jpg) "
            "or of texts (DATA/cat/1.txt), or give a table: its file, not its folder."
        )
    paths = [path for path, _ in cells]
    columns: dict[str, Sequence[object]] = {"image": paths}
    if suffixes is _TEXTS:
        texts = [decoded(path.read_bytes(), shown(path)) for path in paths]
        columns = {"text": texts, "file": list(map(shown, paths))}
    table = Table(
        name=shown(root),
        columns={**columns, "label": [label for _, label in cells]},
        origins=tuple(map(shown, paths)),
        is_named=False,
        target="label" if any(label for _, label in cells) else None,
        findings=tuple(findings),
    )
    return mended_table(table)


def _findings(left_out: Mapping[str, list[str]], what: str) -> list[Finding]:
    kinds = Counter(PurePath(p).suffix.lower() for p in left_out["ignored file"])
    listed = ", ".join(f"{n} {x or 'without any'}" for x, n in kinds.most_common(5))
    doubt: Severity = "note" if kinds.keys() <= _COMPANIONS else "warning"
    said: list[tuple[str, Severity, str, str]] = [
        ("ignored file", doubt, "file", f"without {what} suffix ignored: {listed}."),
        ("closed entry", "warning", "path", "that cannot be followed ignored."),
        ("empty folder", "note", "folder", "without examples ignored."),
        ("hidden file", "note", "hidden name", "ignored, as programs make them."),
    ]
    return [
        Finding.at(kind, severity, f"{counted(len(left), thing)} {words}", left)
        for kind, severity, thing, words in said
        if (left := left_out[kind])
    ]


def _images(
    path: Path,
    left_out: dict[str, list[str]] | None = None,
    suffixes: Collection[str] = IMAGE_SUFFIXES,
    above: tuple[Path, ...] = (),
) -> list[Path]:
    """Return the images at or under a path at any depth; name what is left out."""
    left_out = defaultdict(list) if left_out is None else left_out
    if path.is_dir() and (real := path.resolve()) not in above:
        entries = _entries(path, left_out)
        above = (*above, real)
        return [i for p in entries for i in _images(p, left_out, suffixes, above)]
    if path.is_file() and path.suffix.lower() in suffixes:
        return [path]
    # Links may lead nowhere, or back to a folder that they lie in.
    kind = "ignored file" if path.is_file() else "closed entry"
    left_out[kind].append(shown(path))
    return []


def _entries(folder: Path, left_out: dict[str, list[str]] | None = None) -> list[Path]:
    """Return what lies in a folder in natural order, without what programs hide."""
    left_out = defaultdict(list) if left_out is None else left_out
    try:
        by_name = {p.name: p for p in folder.iterdir()}
    except PermissionError:
        left_out["closed entry"].append(shown(folder))
        return []
    ordered = [by_name[name] for name in natural_order(by_name)]
    hidden = {p for p in ordered if p.name.lower().startswith(_HIDDEN)}
    left_out["hidden file"] += [shown(p) for p in ordered if p in hidden]
    return [p for p in ordered if p not in hidden]


def shown(path: Path) -> str:
    """Return a path for people, and for files in UTF-8; its bytes may be any."""
    return mended(str(path))
