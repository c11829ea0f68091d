"""The simulated machines of docs/hardware.md and of tests/policy/test_placing.py."""

from collections.abc import Iterator
from typing import NamedTuple

from fewshot_automl.cli.plan import devices_of
from fewshot_automl.hardware import PROCESS_BYTES, Forecast
from fewshot_automl.policy import PlacementPlan, plan_placement

GB = 1_000_000_000


def training(memory: float, weights: float, trained: float, seconds: float) -> Forecast:
    """Return a forecast of seconds and gigabytes, besides those of every process."""
    return Forecast(
        memory_bytes=PROCESS_BYTES + round(memory * GB),
        weights_bytes=round(weights * GB),
        trained_bytes=round(trained * GB),
        seconds=float(seconds),
    )


TRAININGS = {
    "MiniLM, on a CPU": training(0.5, 0.09, 0.05, 8),
    "base encoder": training(2.5, 0.44, 0.22, 9),
    "base encoder, long texts": training(15, 0.44, 0.44, 30),
    "large encoder": training(8, 1.3, 1.2, 20),
    "7 GB of weights, all trained": training(40, 7, 7, 300),
    "28 GB of weights": training(40, 28, 0.1, 60),
}
"""What the largest planned training needs: gigabytes, and seconds where it runs."""


class Machine(NamedTuple):
    """One row."""

    name: str
    devices: str
    training: str
    minutes: float

    @property
    def plan(self) -> PlacementPlan:
        """Return where trials run on it."""
        need = TRAININGS[self.training]
        return plan_placement(devices_of(self.devices), [need], 60.0 * self.minutes)


MACHINES = (
    Machine("laptop, 2 cores", "cpu:2:8GB", "MiniLM, on a CPU", 5),
    Machine("the same in a minute", "cpu:2:8GB", "MiniLM, on a CPU", 0.75),
    Machine("little memory", "cpu:2:2GB", "MiniLM, on a CPU", 5),
    Machine("workstation, 16 cores", "cpu:16:64GB", "MiniLM, on a CPU", 5),
    Machine("Apple", "mps:16GB+cpu:8:16GB", "base encoder", 5),
    Machine("8 GB card", "8GB+cpu:8:32GB", "base encoder", 5),
    Machine("24 GB card", "24GB+cpu:16:64GB", "base encoder", 5),
    Machine("four cards", "4x24GB+cpu:32:128GB", "base encoder", 5),
    Machine("four cards, no memory figure", "4xGPU+cpu:32", "base encoder", 5),
    Machine("eight cards", "8x80GB,nvlink", "base encoder", 5),
    Machine(
        "eight cards, one trial too long",
        *("8x80GB,nvlink", "7 GB of weights, all trained", 10),
    ),
    Machine(
        "eight cards, a day",
        *("8x80GB,nvlink", "7 GB of weights, all trained", 1440),
    ),
    Machine("mixed cards", "24GB+8GB+cpu:16:64GB", "base encoder", 5),
    Machine(
        "mixed cards, one too small",
        *("24GB+8GB+cpu:16:64GB", "base encoder, long texts", 10),
    ),
    Machine("batch too large", "9GB+cpu:8:32GB", "large encoder", 10),
    Machine("card too small to train", "4GB+cpu:8:32GB", "large encoder", 10),
    Machine("card too small, two hours", "2GB+cpu:8:40GB", "large encoder", 120),
    Machine("card too small for the weights", "8GB+cpu:8:64GB", "28 GB of weights", 10),
    Machine(
        "two cards, training too large",
        *("2x40GB+cpu:16:64GB", "7 GB of weights, all trained", 120),
    ),
    Machine("two nodes", "2 nodes x 8x80GB,nvlink", "base encoder", 10),
)


def machines() -> Iterator[tuple[str, ...]]:
    """Yield each machine with its plan."""
    yield "Machine", "`--devices`", "Largest training", "Budget", "Executor", "Why"
    for row in MACHINES:
        need = TRAININGS[row.training]
        sizes = f"{need.memory_bytes / GB:.2g} GB, {need.seconds:g} s"
        minutes = f"{row.minutes:g} min"
        yield (
            *(row.name, f"`{row.devices}`", f"{row.training} ({sizes})", minutes),
            *(f"`{row.plan.executor}`", str(row.plan)),
        )
