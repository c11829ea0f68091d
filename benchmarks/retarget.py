"""Measure what another goal for a finished study takes, and how good its choice is.

For each task a study by accuracy, and for each of four goals `fewshot retarget` of it
beside a fresh fit for that goal in the same budget; scores are those on the test part.
Goals: an answer takes under 5 seconds where nothing is fitted, else at most a tenth of
the study's time; it is within 0.01 of the fresh fit. Seconds are by the clock and
depend on what else runs; CPU seconds hardly do.

Last, classes of 5 to 1 where a missed rare one costs 5: the mean cost of decisions of
least expected cost beside that of the most probable class, on test data as uneven.

Examples:
    python benchmarks/retarget.py --quick
    OMP_NUM_THREADS=1 python benchmarks/retarget.py --budget 60s
"""

import argparse
import json
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import pandas as pd
from machine import stamp
from parts.upkeep import (
    BENCHMARKS,
    LABEL,
    SHARED,
    Drawn,
    command,
    files,
    fitted,
    kept,
    score,
    write,
)

from fewshot_automl import Predictor
from fewshot_automl.bench.suite import load_suite
from fewshot_automl.data import read_like
from fewshot_automl.study import parse_budget

TASKS = "trec6,clickbait,flowers5,hymenoptera"
GOALS = ("macro_f1", "parameters", "cost", "coverage")
INSTANT, SHARE, CLOSE = 5.0, 0.1, 0.01
DEAR = 5.0
"""What a mistake costs that is dearer than others."""
MOST_PARAMETERS = {"text": "30M", "image": "4M"}
"""Which leave the smallest backbones that packages carry."""
RARE = 8
"""Labelled examples of the rare one of two uneven classes."""


def words_of(goal: str, study: dict[str, Any]) -> tuple[list[str], str]:
    """Return options that ask for a goal, and the metric it is judged by."""
    names = study["task"]["names"]
    if goal == "macro_f1":
        return ["--metric", "macro_f1"], "macro_f1"
    if goal == "parameters":
        most = MOST_PARAMETERS[study["task"]["modality"]]
        return ["--max-parameters", most], "accuracy"
    if goal == "cost":
        return ["--cost", f"{names[0]}->{names[1]}:{DEAR:g}"], "cost"
    return ["--coverage", "0.8"], "accuracy"


def goals_of(
    task: str, goals: tuple[str, ...], budget: float, data: Path
) -> dict[str, Any]:
    """Return, for each goal, what it took and how good it is beside a fresh fit."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        drawn = files(task, data, folder / "data", 1)
        study = folder / "study"
        first = fitted(drawn.first, study, budget).answer
        for goal in goals:
            words, metric = words_of(goal, first)
            new, fresh = folder / goal, folder / f"{goal}-fresh"
            again = command("retarget", study, *words, "--out", new)
            fitted(drawn.first, fresh, budget, *words)
            members = {json.dumps(m["config"]) for m in first["members"]}
            is_fit = any(
                json.dumps(m["config"]) not in members for m in again.answer["members"]
            )
            ours, theirs = (score(x, drawn.test, metric) for x in (new, fresh))
            found[goal] = {
                "metric": metric,
                "before": score(study, drawn.test, metric)
                if metric != "cost"
                else None,
                "retargeted": ours,
                "fresh": theirs,
                "is_fit": is_fit,
                "seconds": round(again.seconds, 1),
                "cpu": round(again.cpu_seconds, 1),
            }
    return {"goals": found, **stamp()}


def uneven(task: str, data: Path, folder: Path, seed: int) -> tuple[Drawn, list[str]]:
    """Write a draw of a task of two classes, one of them rare."""
    (card,) = load_suite(BENCHMARKS / "suite", data=data, tasks=[task])
    parts = []
    for part, few in (("train", RARE), ("test", 60)):
        rows = card.rows(part)
        sizes = dict(zip(sorted(rows[LABEL].unique()), (few, 5 * few), strict=True))
        drawn = [
            rows[rows[LABEL] == name].sample(size, random_state=seed)
            for name, size in sizes.items()
        ]
        parts.append(pd.concat(drawn))
    first, test = parts
    return write(first, first[:0], test, folder), list(sizes)


def costs_of(task: str, seed: int, budget: float, data: Path) -> dict[str, Any]:
    """Return the mean cost on test data of both ways to decide."""
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        drawn, (rare, other) = uneven(task, data, folder / "data", seed)
        fitted(drawn.first, folder / "study", budget)
        goal = ("--cost", f"{rare}->{other}:{DEAR:g}")
        command("retarget", folder / "study", *goal, "--out", folder / "new")
        model = Predictor.load(folder / "new")
        test = read_like(str(drawn.test), model.task, model.columns, LABEL)
        outputs, costs = model.outputs_of(test.inputs), model.task.costs
        assert costs is not None
        decided, probable = costs.decide(outputs), outputs.argmax(axis=1)
        both = [
            float(np.mean(costs.of_decisions(test.targets, answers)))
            for answers in (decided, probable)
        ]
    return {"least": both[0], "argmax": both[1], **stamp()}


def main() -> None:
    """Run what is missing, print the tables, end with one JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--tasks", default=TASKS, help=f"default: {TASKS}")
    parser.add_argument("--uneven", default="clickbait,subj", help="of two classes")
    parser.add_argument("--draws", default="1,2,3", help="of uneven classes")
    parser.add_argument("--budget", default="60s", help="of each study; default: 60s")
    out = BENCHMARKS / "results" / "retarget.jsonl"
    parser.add_argument("--out", type=Path, default=out)
    parser.add_argument("--quick", action="store_true", help="a task, 2 goals, 25 s")
    asked, goals = parser.parse_args(), GOALS
    if asked.quick:
        asked.tasks, asked.draws, asked.budget, goals = "trec6", "1", "25s", GOALS[1:3]
        asked.uneven, asked.out = "clickbait", Path(tempfile.mkdtemp()) / "quick.jsonl"
    budget, rows, short = parse_budget(asked.budget), [], []
    print(f"{'task and goal':<28}retargeted   fresh   seconds  CPU  fitted")
    for task in asked.tasks.split(","):
        key = {"task": task, "budget": budget}
        make = partial(goals_of, task, goals, budget, asked.data)
        for goal, row in kept(asked.out, key, make)["goals"].items():
            rows.append(row)
            name = f"{task} {goal}"
            sign = -1 if row["metric"] == "cost" else 1
            row["gap"] = sign * (row["retargeted"] - row["fresh"])
            print(
                f"{name:<28}{row['retargeted']:>10.3f}{row['fresh']:>8.3f}"
                f"{row['seconds']:>10.1f}{row['cpu']:>5.1f}  "
                f"{'yes' if row['is_fit'] else 'no'}",
                flush=True,
            )
            most = SHARE * budget if row["is_fit"] else INSTANT
            if row["seconds"] > most:
                took = f"{row['seconds']:.1f} s ({row['cpu']:.1f} s of CPU)"
                short.append(f"{name}: {took}, at most {most:.0f} s is wanted")
    gap = statistics.mean(row["gap"] for row in rows)
    if gap < -CLOSE:
        short.append(f"{gap:+.3f} beside fresh fits, at most {-CLOSE} is wanted")
    print(f"\n{'uneven classes':<28}least cost  argmax")
    pairs = []
    for task in asked.uneven.split(","):
        for seed in map(int, asked.draws.split(",")):
            key = {"uneven": task, "draw": seed, "budget": budget / 2}
            make = partial(costs_of, task, seed, budget / 2, asked.data)
            row = kept(asked.out, key, make)
            pairs.append((row["least"], row["argmax"]))
            print(f"{f'{task} {seed}':<28}{row['least']:>10.3f}{row['argmax']:>8.3f}")
    least, argmax = map(statistics.mean, zip(*pairs, strict=True))
    if least >= argmax:
        short.append(f"decisions of least cost cost {least:.3f}, argmax {argmax:.3f}")
    instant = [row["seconds"] for row in rows if not row["is_fit"]]
    figures = {
        "cases": len(rows),
        "retargeted less fresh": round(gap, 4),
        "worst": round(min(row["gap"] for row in rows), 4),
        "seconds without a fit": statistics.median(instant) if instant else None,
        "CPU seconds": statistics.median(row["cpu"] for row in rows),
        "mean cost, least expected": round(least, 4),
        "mean cost, most probable": round(argmax, 4),
    }
    line = {"benchmark": "retarget", "figures": figures, "falls_short": short}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
