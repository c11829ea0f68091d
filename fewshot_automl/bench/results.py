"""Runs as lines of a file: one JSON object each, written as soon as it is over."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

TOLD: Final[dict[str, type]] = {
    **dict.fromkeys(("expected", "low", "high"), float),
    **dict.fromkeys(("fit_seconds", "predict_seconds", "latency_ms"), float),
    "latency_alone_ms": float,
    **{"members": int, "winner": str, "version": str},
}
"""What an entrant may tell: the score it expects and its interval; its own seconds;
what one prediction costs; of how many models, which, and the version of the program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One entrant on one draw of one task."""

    suite: str
    task: str
    shots: int
    draw: int
    budget: float | None
    """Seconds; None of an entrant that does not depend on it."""
    entrant: str
    status: str = "failed"
    """Or `done`."""
    seconds: float = 0.0
    """Of the whole command by the harness's clock, predictions included."""
    reason: str | None = None
    """Why it failed."""
    metric: str = "accuracy"
    value: float | None = None
    """Of the task's metric, on the test rows."""
    accuracy: float | None = None
    log_loss: float | None = None
    """Of the probabilities, if there are any."""
    log_loss_before: float | None = None
    """The same before calibration, if the entrant tells those probabilities too."""
    value_alone: float | None = None
    log_loss_alone: float | None = None
    """Of the best member of a committee, if the entrant tells its probabilities too."""
    expected: float | None = None
    low: float | None = None
    high: float | None = None
    fit_seconds: float | None = None
    predict_seconds: float | None = None
    latency_ms: float | None = None
    latency_alone_ms: float | None = None
    members: int | None = None
    winner: str | None = None
    version: str | None = None
    machine: str = ""
    date: str = ""
    test_rows: int | None = None
    """So many rows of the test part, drawn by the seed of the draw; all if None."""

    @property
    def key(self) -> tuple[Any, ...]:
        """Return what makes a run the same run."""
        cell = (self.task, self.shots, self.draw, self.budget, self.entrant)
        return cell if self.test_rows is None else (*cell, self.test_rows)

    @property
    def is_done(self) -> bool:
        """Return whether it predicted."""
        return self.status == "done"


def read_results(path: Path | str) -> list[Run]:
    """Read runs; of two with one key, the later. A line broken off is left out."""
    path, known = Path(path), {field.name for field in fields(Run)}
    runs: dict[tuple[Any, ...], Run] = {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            values: dict[str, Any] = json.loads(line)
        except ValueError:  # the harness was killed while it wrote
            continue
        run = Run(**{name: v for name, v in values.items() if name in known})
        runs[run.key] = run
    return list(runs.values())


def append(path: Path, run: Run) -> None:
    """Write a run as a further line, on a line of its own whatever stands there."""
    is_whole = not path.exists() or path.read_bytes()[-1:] in (b"", b"\n")
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{'' if is_whole else chr(10)}{json.dumps(asdict(run))}\n")
