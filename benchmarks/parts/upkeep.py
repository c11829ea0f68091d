"""What the benchmarks of maintained models share: commands, timed, and their scores."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from fewshot_automl.bench.suite import LABEL, draw, load_suite, write_rows

BENCHMARKS = Path(__file__).resolve().parent.parent
SHARED = BENCHMARKS.parent.parent / "shared/data"
SHOTS = {"clickbait": 24, "subj": 24, "hymenoptera": 24}
"""Labelled examples of each class, where not 8."""
MOST_TESTED = 400


class Timed(NamedTuple):
    """What a command said, and what it took."""

    answer: dict[str, Any]
    """The JSON object that it printed last."""
    seconds: float
    """By the clock."""
    cpu_seconds: float
    """Of the processor, which other programs change less."""


def command(*words: object) -> Timed:
    """Run a command of fewshot with ``--json``."""
    line = [sys.executable, "-m", "fewshot_automl", *map(str, words), "--json"]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(line, capture_output=True, text=True, env={**os.environ})
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 3):
        raise SystemExit(f"{' '.join(line)}\n{done.stderr}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Timed(json.loads(done.stdout.splitlines()[-1]), seconds, cpu)


class Drawn(NamedTuple):
    """Files of one draw from a data set."""

    first: Path
    """Labels to fit."""
    new: Path
    """More of them."""
    both: Path
    test: Path


def files(task: str, data: Path, folder: Path, seed: int, new: int = 50) -> Drawn:
    """Write a draw of a task of the suite as the commands read it."""
    (card,) = load_suite(BENCHMARKS / "suite", data=data, tasks=[task])
    rows, test = card.rows("train"), card.rows("test")
    first = draw(rows, SHOTS.get(task, 8), seed)
    more = rows.drop(first.index).sample(new, random_state=seed)
    test = test.sample(min(len(test), MOST_TESTED), random_state=0)
    return write(first, more, test, folder)


def write(
    first: pd.DataFrame, more: pd.DataFrame, test: pd.DataFrame, folder: Path
) -> Drawn:
    """Write the tables of a draw."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"first": first, "new": more, "both": pd.concat([first, more])}
    parts["test"] = test
    places = {name: folder / f"{name}.csv" for name in parts}
    for name, rows in parts.items():
        write_rows(rows, places[name])
    return Drawn(**places)


def fitted(data: Path, out: Path, budget: float, *goal: object) -> Timed:
    """Fit from scratch."""
    words = ["fit", data, "--target", LABEL, "--budget", f"{budget:g}s", "--out", out]
    return command(*words, *goal)


def score(model: Path, test: Path, metric: str) -> float:
    """Return a model's score on test data."""
    answer = command("score", model, test, "--target", LABEL).answer
    return float(answer[metric])


def kept(out: Path, key: dict[str, Any], make: Callable[[], dict[str, Any]]) -> Any:
    """Return the row of a case, from the file of results or made and written there."""
    lines = out.read_text("utf-8").splitlines() if out.exists() else []
    for row in map(json.loads, lines):
        if key.items() <= row.items():
            return row
    row = {**key, **make()}
    with out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    return row
