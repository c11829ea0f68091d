"""Runs entrants as commands: same files, same threads, same clock for all."""

import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import numpy as np

from fewshot_automl.bench.entrant import Entrant, read_told
from fewshot_automl.bench.results import Run, append, read_results
from fewshot_automl.bench.suite import Suite, TaskCard, write_inputs, write_task
from fewshot_automl.errors import UserError
from fewshot_automl.oracle.prior import Prior
from fewshot_automl.places import cache_folder
from fewshot_automl.tasks import Task

LATE: Final = (1.5, 60.0)
"""A command is killed after so many budgets and seconds more."""
UNTIMED_SECONDS: Final = 1800.0
"""The same where it does not depend on the budget."""
THREADS: Final = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "RAYON")
TOLD_CHARACTERS: Final = 600
"""Of what a failed command wrote last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run that is to be made."""

    task: TaskCard
    shots: int
    draw: int
    budget: float
    """Seconds that the entrant is told."""
    entrant: Entrant

    @property
    def key(self) -> tuple[str, int, int, float | None, str]:
        """Return the key of its run."""
        stated = self.budget if self.entrant.minds_budget else None
        return (self.task.name, self.shots, self.draw, stated, self.entrant.name)


def run(
    suite: Suite,
    entrants: Sequence[Entrant],
    *,
    out: Path | str,
    shots: Sequence[int] = (8,),
    draws: Sequence[int] = (20, 21, 22),
    budgets: Sequence[float] = (60.0,),
    jobs: int = 1,
    again: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> list[Run]:
    """Make all runs that a file of results lacks; return those that were asked for.

    Args:
        suite: The tasks.
        entrants: The rows.
        out: File of results, JSON Lines; further runs are added.
        shots: Labelled examples a class.
        draws: Seeds of the draws of shots; also what entrants are told as seed.
        budgets: Seconds.
        jobs: Runs side by side, each on cores of its own.
        again: Whether failed runs are made again.
        say: Hears a line a run, and what is left out.
    """
    out, cores = Path(out), usable_cores()
    if not 1 <= jobs <= len(cores):
        raise UserError(f"jobs must be from 1 to {len(cores)} (cores), got {jobs}.")
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    for name, reason in suite.missing.items():
        say(f"Left out task {name}: {reason}.")
    cells = [
        Cell(task=task, shots=n, draw=draw, budget=budget, entrant=row)
        for draw in draws
        for n in shots
        for task in suite.tasks
        for row in entrants
        for budget in (budgets if row.minds_budget else [max(budgets)])
        if not row.modalities or task.modality in row.modalities
    ]
    known = {r.key: r for r in read_results(out) if r.is_done or not again}
    todo = [cell for cell in cells if cell.key not in known]
    say(f"{len(todo)} of {len(cells)} runs are to be made.")
    shares: SimpleQueue[list[int]] = SimpleQueue()
    for job in range(jobs):
        shares.put(cores[job::jobs] if jobs > 1 else cores)
    works = _Works(suite, len(cores) // jobs)
    with ThreadPoolExecutor(jobs, initializer=lambda: pin(shares.get())) as pool:
        try:
            waiting = [pool.submit(works.run, cell) for cell in todo]
            for number, future in enumerate(as_completed(waiting), 1):
                made = future.result()
                append(out, [made])
                known[made.key] = made
                say(f"[{number}/{len(todo)}] {_in_words(made)}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            works.stop()
            raise
    return [known[cell.key] for cell in cells]


def usable_cores() -> list[int]:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def pin(cores: Sequence[int]) -> None:
    """Keep this thread, and what it starts, on some cores, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def machine() -> str:
    """Return this machine in words, without its name."""
    return f"{platform.system()} {platform.machine()}, {len(usable_cores())} cores"


class _Works:
    """Makes runs, each in a folder of its own that goes afterwards."""

    def __init__(self, suite: Suite, threads: int) -> None:
        self.suite, self.threads = suite, threads
        self.running: set[subprocess.Popen[str]] = set()
        self.words = f"{machine()}, {threads} threads a run"

    def stop(self) -> None:
        """End what still runs."""
        for process in list(self.running):
            os.killpg(process.pid, signal.SIGKILL)

    def run(self, cell: Cell) -> Run:
        """Draw, write the files, run the command, score what it wrote."""
        task, (_, _, _, budget, name) = cell.task, cell.key
        seconds, scores, reason = 0.0, dict[str, Any](), None
        train = self.suite.rows(task, "train")
        test = self.suite.rows(task, "test")
        with tempfile.TemporaryDirectory(prefix="fewshot-bench-") as place:
            folder = Path(place)
            drawn = train.draw(cell.shots, cell.draw)
            write_inputs(drawn, folder / "train.csv", with_labels=True)
            write_inputs(test, folder / "test.csv", with_labels=False)
            write_task(task, folder, cell.budget, cell.draw)
            seconds, reason = self._timed(cell, folder)
            if reason is None:
                try:
                    scores = scored(task, test.labels, drawn.labels, folder / "out.csv")
                except (UserError, OSError, KeyError) as error:
                    reason = f"Its predictions cannot be read: {error}"
        return Run(
            suite=self.suite.name,
            task=task.name,
            shots=cell.shots,
            draw=cell.draw,
            budget=budget,
            entrant=name,
            status="done" if reason is None else "failed",
            reason=reason,
            metric=task.metric,
            seconds=round(seconds, 2),
            machine=self.words,
            date=time.strftime("%Y-%m-%d"),
            **scores,
        )

    def _timed(self, cell: Cell, folder: Path) -> tuple[float, str | None]:
        environment = self._prepared(cell, folder)
        places = {
            name: str(folder / f"{name}.csv") for name in ("train", "test", "out")
        }
        places |= {"budget": f"{cell.budget:g}", "seed": str(cell.draw)}
        places |= {"python": sys.executable}
        limit = UNTIMED_SECONDS
        if cell.entrant.minds_budget:
            limit = LATE[0] * cell.budget + LATE[1]
        start = time.monotonic()
        try:
            with (folder / "stderr").open("w") as errors:
                process = subprocess.Popen(  # noqa: S603  the user's own command
                    cell.entrant.words(places),
                    env=environment,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    text=True,
                    start_new_session=True,  # so that its children end with it
                )
        except OSError as error:
            return 0.0, f"It cannot be started: {error}"
        self.running.add(process)
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return time.monotonic() - start, f"It was not over after {limit:g} s."
        finally:
            self.running.discard(process)
        seconds = time.monotonic() - start
        if code == 0 and (folder / "out.csv").exists():
            return seconds, None
        said = (folder / "stderr").read_text("utf-8", "replace").strip()
        return seconds, f"Exit code {code}, no predictions. {said[-TOLD_CHARACTERS:]}"

    def _prepared(self, cell: Cell, folder: Path) -> dict[str, str]:
        """Return the environment: weights at hand, nothing else from earlier runs."""
        Prior.default().without(cell.task.name).write(folder / "prior.json")
        threads = {f"{name}_NUM_THREADS": str(self.threads) for name in THREADS}
        more = {"HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        return {**os.environ, **threads, **more, **fresh_cache(folder)}


def fresh_cache(folder: Path) -> dict[str, str]:
    """Make a cache with our weights and nothing else; return what points there."""
    cache = folder / "cache"
    cache.mkdir()
    (cache / "weights").symlink_to(cache_folder().absolute() / "weights")
    return {"FEWSHOT_CACHE": str(cache)}


def scored(
    task: TaskCard, truth: Sequence[str], known: Sequence[str], out: Path
) -> dict[str, Any]:
    """Return what predictions are worth, and what was told beside them.

    Raises:
        UserError: If they are not one of the known classes for each test example.
    """
    import pandas as pd

    frame = pd.read_csv(out, dtype={"prediction": str}, keep_default_na=False)
    names = sorted({*truth, *known})
    place = {name: at for at, name in enumerate(names)}
    wrong = sorted(set(frame["prediction"]) - set(names))
    if len(frame) != len(truth) or wrong:
        raise UserError(
            f"Predictions must be {len(truth)} names of classes, got {len(frame)}, "
            f"{', '.join(map(repr, wrong[:3])) or 'all known'} among them."
        )
    targets = np.array([place[name] for name in truth])
    decided = np.eye(len(names))[[place[name] for name in frame["prediction"]]]
    proba = {kind: _proba(frame, kind, names) for kind in ("proba", "before")}
    rules = Task(modality=task.modality, names=tuple(names), metric=task.metric)
    metric, metrics = rules.measured, rules.rules.metrics
    outputs = decided if metric.needs == "decisions" else proba["proba"]
    if outputs is None:
        raise UserError(f"{task.metric} must have columns proba_CLASS, got none.")
    losses = {
        kind: None if made is None else metrics["log_loss"].value(targets, made)
        for kind, made in proba.items()
    }
    return {
        "value": metric.value(targets, outputs),
        "accuracy": metrics["accuracy"].value(targets, decided),
        "log_loss": losses["proba"],
        "log_loss_before": losses["before"],
        **read_told(out.with_suffix(".json")),
    }


def _proba(frame: Any, kind: str, names: Sequence[str]) -> np.ndarray | None:
    columns = [f"{kind}_{name}" for name in names]
    if not set(columns) <= set(frame.columns):
        return None
    proba = frame[columns].to_numpy(dtype=np.float64)
    return np.asarray(proba / proba.sum(axis=1, keepdims=True))


def _in_words(made: Run) -> str:
    budget = "" if made.budget is None else f", {made.budget:g} s"
    about = f"{made.task}, {made.shots} shots, draw {made.draw}{budget}, {made.entrant}"
    if not made.is_done:
        return f"{about}: failed. {made.reason}"
    said = "" if made.low is None else f", said {made.low:.3f} to {made.high:.3f}"
    return f"{about}: {made.metric} {made.value:.3f}{said}, {made.seconds:.0f} s"
