"""Runs entrants as commands: same files, same threads, same clock for all."""

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from fewshot_automl.bench.entrant import Entrant
from fewshot_automl.bench.results import TOLD, Run, append, read_results
from fewshot_automl.bench.suite import INPUT, LABEL, TaskCard, draw, write_rows
from fewshot_automl.cells import natural_order
from fewshot_automl.errors import RunError, UserError
from fewshot_automl.oracle.prior import Prior
from fewshot_automl.places import cache_folder
from fewshot_automl.tasks import Task

LATE: Final = (1.5, 60.0, 1.0)
"""A command is killed after so many budgets, so many seconds and so many a test row."""
UNTIMED_SECONDS: Final = 1200.0
"""The budget, for that, of one that does not depend on it."""
THREADS: Final = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "RAYON")
TOLD_CHARACTERS: Final = 600
"""Of what a failed command wrote last."""


def run(
    tasks: Sequence[TaskCard],
    entrants: Sequence[Entrant],
    *,
    out: Path | str,
    shots: Sequence[int] = (8,),
    draws: Sequence[int] = (20, 21, 22),
    budgets: Sequence[float] = (60.0,),
    jobs: int = 1,
    again: bool = False,
    test_rows: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Run]:
    """Make all runs that a file of results lacks; return those that were asked for.

    Args:
        tasks: A suite, or some of it.
        entrants: The rows.
        out: File of results, JSON Lines; further runs are added.
        shots: Labelled examples a class.
        draws: Seeds of what is drawn; entrants are told them, too.
        budgets: Seconds.
        jobs: Runs side by side, each on cores of its own.
        again: Whether failed runs are made again.
        test_rows: Rows to draw of test parts that have more.
        say: Hears a line a run, and what is left out.

    Raises:
        UserError: If data cannot be read, cores are too few or names are not unique.
    """
    out, cores = Path(out), usable_cores()
    if not 1 <= jobs <= len(cores):
        raise UserError(f"jobs must be from 1 to {len(cores)} (cores), got {jobs}.")
    if len(names := [row.name for row in entrants]) > len({*names}):
        raise UserError(f"Names of entrants must differ, got {', '.join(names)}.")
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    for card in tasks:
        if not card.data.is_dir():
            say(f"Left out task {card.name}: no data at {card.data}.")
    there = [card for card in tasks if card.data.is_dir()]
    parts = {card.name: (card.rows("train"), card.rows("test")) for card in there}
    cells = [
        _Cell(card, row, n, seed, budget, *parts[card.name], test_rows)
        for seed, n, card, row in product(draws, shots, there, entrants)
        if not row.modalities or card.modality in row.modalities
        for budget in (budgets if row.minds_budget else [max(budgets)])
    ]
    known = {r.key: r for r in read_results(out) if r.is_done or not again}
    todo = [cell for cell in cells if cell.planned.key not in known]
    say(f"{len(todo)} of {len(cells)} runs are to be made.")
    share = len(cores) // jobs
    shares = deque(cores[job * share : (job + 1) * share] for job in range(jobs))

    def pin() -> None:
        if hasattr(os, "sched_setaffinity"):  # this thread, and what it starts
            os.sched_setaffinity(0, shares.pop())

    running: set[subprocess.Popen[bytes]] = set()
    with ThreadPoolExecutor(jobs, initializer=pin) as pool:
        waiting = [pool.submit(cell.run, running) for cell in todo]
        try:
            for number, future in enumerate(as_completed(waiting), 1):
                made = future.result()
                append(out, made)
                known[made.key] = made
                say(f"[{number}/{len(todo)}] {_in_words(made)}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            while any(future.running() for future in waiting):  # some may just begin
                for process in list(running):
                    _kill(process)
                time.sleep(0.1)
            raise
    return [known[cell.planned.key] for cell in cells]


def usable_cores() -> list[int]:
    """Return the cores that this thread may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def fresh_cache(folder: Path) -> dict[str, str]:
    """Make a cache with our weights and nothing else; return what points there."""
    cache = folder / "cache"
    cache.mkdir()
    (cache / "weights").symlink_to(cache_folder().absolute() / "weights")
    return {"FEWSHOT_CACHE": str(cache)}


@dataclass(frozen=True, slots=True, eq=False)
class _Cell:
    """One run that is to be made."""

    card: TaskCard
    entrant: Entrant
    shots: int
    seed: int
    budget: float
    pool: pd.DataFrame
    test: pd.DataFrame
    test_rows: int | None

    @property
    def planned(self) -> Run:
        """Return the run without what it finds."""
        is_cut = self.test_rows is not None and self.test_rows < len(self.test)
        system, cores = f"{platform.system()} {platform.machine()}", usable_cores()
        return Run(
            suite=self.card.suite,
            task=self.card.name,
            shots=self.shots,
            draw=self.seed,
            budget=self.budget if self.entrant.minds_budget else None,
            entrant=self.entrant.name,
            metric=self.card.metric,
            machine=f"{system}, cores of a run: {len(cores)}",
            date=time.strftime("%Y-%m-%d"),
            test_rows=self.test_rows if is_cut else None,
        )

    def run(self, running: set[subprocess.Popen[bytes]]) -> Run:
        """Draw, write the files, run the command, score what it wrote."""
        planned, test = self.planned, self.test
        train = draw(self.pool, self.shots, self.seed)
        if planned.test_rows is not None:
            test = test.sample(planned.test_rows, random_state=self.seed)
        facts = {"task": self.card.name, "modality": self.card.modality}
        facts |= {"metric": self.card.metric}
        names, truth = natural_order({*train[LABEL], *test[LABEL]}), list(test[LABEL])
        with tempfile.TemporaryDirectory(prefix="fewshot-bench-") as place:
            folder = Path(place)
            write_rows(train, folder / "train.csv")
            write_rows(test[[INPUT]], folder / "test.csv")
            (folder / "task.json").write_text(json.dumps(facts), "utf-8")
            Prior.default().without(self.card.name).write(folder / "prior.json")
            start = time.monotonic()
            try:
                self._call(folder, len(test), running)
                found = scored(self.card, truth, names, folder / "out.csv")
            except (RunError, ValueError, TypeError, KeyError, OSError) as error:
                found = {"reason": f"{type(error).__name__}: {error}"}
            seconds = round(time.monotonic() - start, 2)
        status = "failed" if "reason" in found else "done"
        return replace(planned, seconds=seconds, status=status, **found)

    def _call(
        self, folder: Path, tests: int, running: set[subprocess.Popen[bytes]]
    ) -> None:
        """Run the command until it ends or is late."""
        places = {n: str(folder / f"{n}.csv") for n in ("train", "test", "out")}
        places |= {"budget": f"{self.budget:g}", "seed": str(self.seed)}
        words = list(self.entrant.command)
        for name, value in {**places, "python": sys.executable}.items():
            words = [word.replace(f"{{{name}}}", value) for word in words]
        threads = {f"{name}_NUM_THREADS": str(len(usable_cores())) for name in THREADS}
        more = {"HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        budget = self.budget if self.entrant.minds_budget else UNTIMED_SECONDS
        limit = LATE[0] * budget + LATE[1] + LATE[2] * tests
        # Encodings may be kept from run to run only where no time is compared.
        cache = fresh_cache(folder) if self.entrant.minds_budget else {}
        log = folder / "stderr"
        with log.open("wb") as errors:
            process = subprocess.Popen(  # noqa: S603  the user's own command
                words,
                env={**os.environ, **threads, **more, **cache},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,  # so that its children end with it
            )
        running.add(process)
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired as error:
            raise RunError(f"It was not over after {limit:g} s.") from error
        finally:
            _kill(process)
            process.wait()
            running.discard(process)
        if code or not (folder / "out.csv").exists():
            said = log.read_text("utf-8", "replace").strip()[-TOLD_CHARACTERS:]
            raise RunError(f"Exit code {code}, no predictions. {said}")


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def scored(
    card: TaskCard, truth: Sequence[str], names: Sequence[str], out: Path
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
    decided = np.eye(len(names))[frame["prediction"].map(place)]
    task = Task(modality=card.modality, names=tuple(names), metric=card.metric)

    def value(metric: str, outputs: np.ndarray) -> float:
        known = task.rules.metric(metric)
        return known.orient(known.score(targets, outputs))

    values: dict[str, Any] = {"accuracy": value("accuracy", decided)}
    outputs = decided if task.measured.needs == "decisions" else None
    kinds = {
        "before": "log_loss_before",
        "alone": "log_loss_alone",
        "proba": "log_loss",
    }
    for kind, key in kinds.items():
        columns = [f"{kind}_{name}" for name in names]
        if set(columns) <= set(frame.columns):
            proba = frame[columns].to_numpy(dtype=np.float64)
            proba /= proba.sum(axis=1, keepdims=True)
            values[key] = value("log_loss", proba)
            if kind == "alone":
                own = np.eye(len(names))[proba.argmax(axis=1)]
                own = proba if outputs is None else own
                values["value_alone"] = value(card.metric, own)
            if kind == "proba" and outputs is None:
                outputs = proba
    if outputs is None:
        raise UserError(f"{card.metric} must have columns proba_CLASS, got none.")
    beside = out.with_suffix(".json")
    said = dict(json.loads(beside.read_text("utf-8"))) if beside.exists() else {}
    told = {n: kind(said[n]) for n, kind in TOLD.items() if said.get(n) is not None}
    return {**values, **told, "value": value(card.metric, outputs)}


def _in_words(made: Run) -> str:
    budget = "" if made.budget is None else f", {made.budget:g} s"
    about = f"{made.task}, {made.shots} shots, draw {made.draw}{budget}, {made.entrant}"
    if not made.is_done:
        return f"{about}: failed. {made.reason}"
    return f"{about}: {made.metric} {made.value:.3f}, {made.seconds:.0f} s"
