"""A stopwatch for both clocks."""

import time
from dataclasses import dataclass


@dataclass
class Spent:
    """Seconds by the wall clock and on the processor, summed over uses of `with`."""

    wall: float = 0.0
    cpu: float = 0.0

    def __enter__(self) -> "Spent":
        """Start."""
        self.wall -= time.perf_counter()
        self.cpu -= time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop."""
        self.wall += time.perf_counter()
        self.cpu += time.process_time()

    def add(self, other: "Spent") -> None:
        """Add what another measured."""
        self.wall += other.wall
        self.cpu += other.cpu
