"""Say what this machine is; the other benchmarks stamp their results with it.

Example:
    python benchmarks/machine.py
"""

import functools
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent


@functools.cache
def stamp() -> dict[str, str]:
    """Return machine, date, commit and torch version, for a line of results."""
    return {
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit(),
        "torch": torch.__version__,
    }


def machine() -> str:
    """Return processor, cores this process may use, and the GPU if there is one."""
    name = f"{processor()}, {cores()} cores"
    if torch.cuda.is_available():
        name += f", {torch.cuda.get_device_name()}"
    return name


def processor() -> str:
    """Return the processor's model name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def commit() -> str:
    """Return the short hash of the commit; a + marks changes to tracked files."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    found = git("rev-parse", "--short=12", "HEAD") or "unknown"
    return found + ("+" if git("status", "--porcelain", "-uno") else "")


def main() -> None:
    """Print the machine."""
    if set(sys.argv[1:]) - {"--quick"}:
        raise SystemExit("usage: machine.py [--quick]")
    print(json.dumps({"benchmark": "machine", "figures": stamp(), "falls_short": []}))


if __name__ == "__main__":
    main()
