"""Say what this machine is, and how fast it multiplies matrices.

The other benchmarks import `stamp` and `matrix_rate`; run alone, this prints both.

Examples:
    python benchmarks/machine.py
    OMP_NUM_THREADS=1 python benchmarks/machine.py --quick
    python benchmarks/machine.py --device cuda --dtype bfloat16
"""

import argparse
import functools
import json
import os
import platform
import subprocess
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
SHAPES = {
    "large": (2048, 2048, 2048),
    "MiniLM, attention": (512, 384, 384),
    "MiniLM, up": (512, 384, 1536),
    "MiniLM, down": (512, 1536, 384),
    "MiniLM, LoRA of rank 8": (512, 384, 8),
}
"""Rows, inner length and columns; 512 rows are 32 texts of 16 tokens."""


def matrix_rate(
    m: int,
    k: int,
    n: int,
    dtype: str = "float32",
    seconds: float = 0.2,
    *,
    device: str = "cpu",
) -> float:
    """Return the FLOP/s of a product of shape ``[m, k] @ [k, n]``.

    With as many threads as torch uses now, by the wall clock. The best of several
    stretches counts, since other work on the machine only ever slows it down.

    Args:
        m: Rows of the left matrix.
        k: Columns of the left matrix.
        n: Columns of the right matrix.
        dtype: Name of a torch dtype.
        seconds: How long to measure.
        device: Where, as torch spells it.
    """
    kind = getattr(torch, dtype)
    left = torch.randn(m, k, device=device).to(kind)
    right = torch.randn(k, n, device=device).to(kind)
    out = torch.empty(m, n, dtype=kind, device=device)

    def stretch(times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            torch.mm(left, right, out=out)
        if out.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    stretch(3)
    times = max(1, int(seconds / 10 / max(stretch(3) / 3, 1e-7)))
    end = time.perf_counter() + seconds
    best = stretch(times)
    while time.perf_counter() < end:
        best = min(best, stretch(times))
    return 2.0 * m * k * n * times / best


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


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dtype", default="float32", help="a torch dtype")
    parser.add_argument("--device", default="cpu", help="as torch spells it")
    parser.add_argument("--quick", action="store_true", help="0.1 s a shape, not 1 s")
    return parser.parse_args()


def main() -> None:
    """Print the machine and its rates."""
    arguments = parse_arguments()
    seconds = 0.1 if arguments.quick else 1.0
    about = stamp()
    print(", ".join(about.values()), f"{torch.get_num_threads()} threads", sep=", ")
    figures = {}
    for name, shape in SHAPES.items():
        rate = matrix_rate(*shape, arguments.dtype, seconds, device=arguments.device)
        figures[name] = round(rate / 1e9, 1)
        print(f"{name:<24} {' x '.join(map(str, shape)):<20} {rate / 1e9:8.1f} GFLOP/s")
    print(json.dumps({"benchmark": "machine", "figures": figures, "falls_short": []}))


if __name__ == "__main__":
    main()
