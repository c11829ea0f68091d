"""Runs entrants as commands: same files, same threads, same clock for all."""

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import numpy as np
import pandas as pd

from fewshot_automl.bench.entrant import Entrant
from fewshot_automl.bench.results import TOLD, Run, append, read_results
from fewshot_automl.bench.suite import INPUT, LABEL, Suite, TaskCard, draw, write_rows
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
        _Cell(suite, task, n, seed, budget, row)
        for seed in draws
        for n in shots
        for task in suite.tasks
        for row in entrants
        for budget in (budgets if row.minds_budget else [max(budgets)])
        if not row.modalities or task.modality in row.modalities
    ]
    known = {r.key: r for r in read_results(out) if r.is_done or not again}
    todo = [cell for cell in cells if cell.planned.key not in known]
    say(f"{len(todo)} of {len(cells)} runs are to be made.")
    shares: SimpleQueue[list[int]] = SimpleQueue()
    for job in range(jobs):
        shares.put(cores[job::jobs])
    with ThreadPoolExecutor(jobs, initializer=lambda: pin(shares.get())) as pool:
        running: set[subprocess.Popen[bytes]] = set()
        try:
            waiting = [pool.submit(cell.run, running) for cell in todo]
            for number, future in enumerate(as_completed(waiting), 1):
                made = future.result()
                append(out, made)
                known[made.key] = made
                say(f"[{number}/{len(todo)}] {_in_words(made)}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return [known[cell.planned.key] for cell in cells]


def usable_cores() -> list[int]:
    """Return the cores that this thread may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def pin(cores: Sequence[int]) -> None:
    """Keep this thread, and what it starts, on some cores, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def fresh_cache(folder: Path) -> dict[str, str]:
    """Make a cache with our weights and nothing else; return what points there."""
    cache = folder / "cache"
    cache.mkdir()
    (cache / "weights").symlink_to(cache_folder().absolute() / "weights")
    return {"FEWSHOT_CACHE": str(cache)}


@dataclass(frozen=True, slots=True)
class _Cell:
    """One run that is to be made."""

    suite: Suite
    task: TaskCard
    shots: int
    seed: int
    budget: float
    entrant: Entrant

    @property
    def planned(self) -> Run:
        """Return the run without what it finds."""
        return Run(
            suite=self.suite.name,
            task=self.task.name,
            shots=self.shots,
            draw=self.seed,
            budget=self.budget if self.entrant.minds_budget else None,
            entrant=self.entrant.name,
            status="failed",
            metric=self.task.metric,
            seconds=0.0,
            machine=f"{platform.system()} {platform.machine()}, cores of a run: "
            f"{len(usable_cores())}",
            date=time.strftime("%Y-%m-%d"),
        )

    def run(self, running: set[subprocess.Popen[bytes]]) -> Run:
        """Draw, write the files, run the command, score what it wrote."""
        test = self.suite.rows(self.task, "test")
        train = draw(self.suite.rows(self.task, "train"), self.shots, self.seed)
        with tempfile.TemporaryDirectory(prefix="fewshot-bench-") as place:
            folder = Path(place)
            write_rows(train, folder / "train.csv")
            write_rows(test[[INPUT]], folder / "test.csv")
            environment = self._prepared(folder)
            start = time.monotonic()
            reason = self._failure(folder, environment, running)
            seconds = round(time.monotonic() - start, 2)
            if reason is not None:
                return replace(self.planned, seconds=seconds, reason=reason)
            try:
                names = sorted({*train[LABEL], *test[LABEL]})
                scores = scored(self.task, list(test[LABEL]), names, folder / "out.csv")
            except (ValueError, TypeError, KeyError) as error:
                reason = f"Its predictions cannot be read: {error}"
                return replace(self.planned, seconds=seconds, reason=reason)
        return replace(self.planned, seconds=seconds, status="done", **scores)

    def _prepared(self, folder: Path) -> dict[str, str]:
        """Write what an entrant may want to know; return its environment."""
        facts = {"task": self.task.name, "modality": self.task.modality}
        facts |= {"metric": self.task.metric}
        (folder / "task.json").write_text(json.dumps(facts), "utf-8")
        Prior.default().without(self.task.name).write(folder / "prior.json")
        threads = str(len(usable_cores()))
        return {
            **os.environ,
            **{f"{name}_NUM_THREADS": threads for name in THREADS},
            **{"HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"},
            **fresh_cache(folder),
        }

    def _failure(
        self,
        folder: Path,
        environment: dict[str, str],
        running: set[subprocess.Popen[bytes]],
    ) -> str | None:
        """Run the command; return why there are no predictions, if there are none."""
        files = {name: str(folder / f"{name}.csv") for name in ("train", "test", "out")}
        places = {**files, "budget": f"{self.budget:g}", "seed": str(self.seed)}
        words = list(self.entrant.command)
        for name, value in {**places, "python": sys.executable}.items():
            words = [word.replace(f"{{{name}}}", value) for word in words]
        limit = LATE[0] * self.budget + LATE[1]
        limit = limit if self.entrant.minds_budget else UNTIMED_SECONDS
        log = folder / "stderr"
        try:
            with log.open("wb") as errors:
                process = subprocess.Popen(  # noqa: S603  the user's own command
                    words,
                    env=environment,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    start_new_session=True,  # so that its children end with it
                )
        except OSError as error:
            return f"It cannot be started: {error}"
        running.add(process)
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"It was not over after {limit:g} s."
        finally:
            running.discard(process)
        if code == 0 and (folder / "out.csv").exists():
            return None
        said = log.read_text("utf-8", "replace").strip()[-TOLD_CHARACTERS:]
        return f"Exit code {code}, no predictions. {said}"


def scored(
    task: TaskCard, truth: Sequence[str], names: Sequence[str], out: Path
) -> dict[str, Any]:
    """Return what predictions are worth, and what was told beside them.

    Raises:
        UserError: If they are not one of these names for each test example.
    """
    frame = pd.read_csv(out, dtype={"prediction": str}, keep_default_na=False)
    wrong = sorted(set(frame["prediction"]) - set(names))
    if len(frame) != len(truth) or wrong:
        raise UserError(
            f"Predictions must be {len(truth)} names of classes, got {len(frame)}, "
            f"{', '.join(map(repr, wrong[:3])) or 'all known'} among them."
        )
    place = {name: at for at, name in enumerate(names)}
    targets = np.array([place[name] for name in truth])
    decided = np.eye(len(names))[[place[name] for name in frame["prediction"]]]
    rules = Task(modality=task.modality, names=tuple(names), metric=task.metric)
    metric, metrics = rules.measured, rules.rules.metrics
    values: dict[str, Any] = {"accuracy": metrics["accuracy"].value(targets, decided)}
    outputs = decided if metric.needs == "decisions" else None
    for kind, key in (("before", "log_loss_before"), ("proba", "log_loss")):
        columns = [f"{kind}_{name}" for name in names]
        if set(columns) <= set(frame.columns):
            proba = frame[columns].to_numpy(dtype=np.float64)
            proba /= proba.sum(axis=1, keepdims=True)
            values[key] = metrics["log_loss"].value(targets, proba)
            if kind == "proba" and outputs is None:
                outputs = proba
    if outputs is None:
        raise UserError(f"{task.metric} must have columns proba_CLASS, got none.")
    beside = out.with_suffix(".json")
    said = json.loads(beside.read_text("utf-8")) if beside.exists() else {}
    told = {n: kind(said[n]) for n, kind in TOLD.items() if said.get(n) is not None}
    return {**values, **told, "value": metric.value(targets, outputs)}


def _in_words(made: Run) -> str:
    budget = "" if made.budget is None else f", {made.budget:g} s"
    about = f"{made.task}, {made.shots} shots, draw {made.draw}{budget}, {made.entrant}"
    if not made.is_done:
        return f"{about}: failed. {made.reason}"
    said = "" if made.low is None else f", said {made.low:.3f} to {made.high:.3f}"
    return f"{about}: {made.metric} {made.value:.3f}{said}, {made.seconds:.0f} s"
