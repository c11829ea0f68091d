"""Replays of all tasks, rows and seeds, in several processes, each kept at once."""

import json
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import torch
from parts.replay_landscape import Landscape
from parts.replay_rows import EVERYTHING, ROWS, Scene, version_of
from parts.replay_study import Curve, everything, replay
from threadpoolctl import threadpool_limits

LEAST_TRAINING = 5
"""Recorded training trials below which a landscape is not replayed."""


@dataclass(frozen=True)
class Job:
    """One curve to make."""

    files: tuple[tuple[Path, int], ...]
    """Every landscape and how many of its lines count: some may still grow."""
    task: str
    row: str
    seed: int
    trials: int
    share: float
    version: str


@cache
def load(files: tuple[tuple[Path, int], ...]) -> dict[str, Landscape]:
    """Return the landscapes by task."""
    found = [Landscape.load(file, lines) for file, lines in files]
    return {one.name: one for one in found}


def files_in(folder: Path) -> tuple[tuple[Path, int], ...]:
    """Return the landscapes of a folder and how long they are now."""
    return tuple(
        (file, file.read_text("utf-8").count("\n"))
        for file in sorted(folder.glob("*.jsonl"))
    )


def scene_of(landscapes: dict[str, Landscape], task: str) -> Scene:
    """Return a task among the others of its modality."""
    here = landscapes[task]
    others = (
        one
        for one in landscapes.values()
        if one.facts.modality == here.facts.modality and one is not here
    )
    return Scene(here, tuple(others))


def jobs_for(
    files: tuple[tuple[Path, int], ...],
    tasks: Sequence[str],
    seeds: dict[str, int],
    *,
    trials: int,
    share: float,
) -> list[Job]:
    """Return one job for each task, row and seed, seed by seed.

    Args:
        files: From `files_in`.
        tasks: Those to replay.
        seeds: How many for each row.
        trials: Dear trials of a study.
        share: Of the recorded training trials, that a seed's studies can choose from.
    """
    landscapes = load(files)
    scenes = {task: scene_of(landscapes, task) for task in tasks}
    versions = {
        (row, task): version_of(row, scene, share)
        for row in seeds
        for task, scene in scenes.items()
    }
    return [
        Job(files, task, row, seed, trials, share, f"{versions[row, task]}-{trials}")
        for seed in range(max(seeds.values()))
        for row, count in seeds.items()
        if seed < count
        for task in tasks
    ]


def run(job: Job) -> Curve:
    """Make one curve, on one thread."""
    warnings.simplefilter("ignore")
    scene = scene_of(load(job.files), job.task)
    part = scene.landscape.part(job.share, job.seed)
    about = {"seed": job.seed, "name": job.row, "version": job.version}
    with threadpool_limits(1):
        if job.row == EVERYTHING:
            return everything(part, job.trials, **about)
        row = ROWS[job.row](Scene(part, scene.others))
        return replay(part, row, job.trials, **about)


def kept(file: Path) -> dict[tuple[str, str, int, str], Curve]:
    """Return the curves that a file holds."""
    if not file.exists():
        return {}
    curves = (Curve(**json.loads(line)) for line in file.read_text().splitlines())
    return {curve.key: curve for curve in curves}


def curves_of(jobs: Sequence[Job], file: Path, workers: int) -> Iterator[Curve]:
    """Yield every job's curve; those that are not in the file are made and added."""
    known = kept(file)
    missing = []
    for job in jobs:
        key = (job.task, job.row, job.seed, job.version)
        if key in known:
            yield known[key]
        else:
            missing.append(job)
    if known or missing:
        print(f"{len(jobs) - len(missing)} replays kept, {len(missing)} to do")
    start, last = time.monotonic(), time.monotonic()
    with file.open("a", encoding="utf-8") as out:
        for number, curve in enumerate(_made(missing, workers), 1):
            out.write(json.dumps(curve.to_json()) + "\n")
            out.flush()
            if time.monotonic() - last > 10 or number == len(missing):
                last = time.monotonic()
                spent = last - start
                left = spent / number * (len(missing) - number)
                print(
                    f"{number}/{len(missing)} replays, {spent:.0f} s, {left:.0f} left",
                    flush=True,
                )
            yield curve


def _made(jobs: Sequence[Job], workers: int) -> Iterator[Curve]:
    if workers == 1 or len(jobs) == 1:
        torch.set_num_threads(1)
        yield from map(run, jobs)
    elif jobs:
        with ProcessPoolExecutor(
            workers, mp_context=get_context("spawn"), initializer=_calm
        ) as pool:
            futures = [pool.submit(run, job) for job in jobs]
            try:
                for future in as_completed(futures):
                    yield future.result()
            finally:
                pool.shutdown(cancel_futures=True)


def _calm() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
