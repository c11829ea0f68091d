"""Measure whether trials side by side pay on a CPU: workers against threads.

The same Configs are tried one at a time with all cores (executor in_process) and side
by side in worker processes that share out the cores (executor loky): trials a minute by
the clock, with and without the workers' start, CPU seconds a trial, whether scores and
winner are the same, and what the planner measures and would choose. Texts are 8 of
each class of trec6; weights must be at hand (`fewshot zoo get --embedded`).

CPU seconds hardly depend on what else runs on the machine; trials a minute do.

Examples:
    python benchmarks/workers.py --quick
    python benchmarks/workers.py --workers 2 --trials 16 --data trec6/train.csv
"""

import argparse
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from fewshot_automl.automl.search import Prepared, prepare
from fewshot_automl.automl.settings import Settings
from fewshot_automl.automl.timeline import Timeline
from fewshot_automl.data import read
from fewshot_automl.executors import executor_named, usable_cores
from fewshot_automl.oracle import oracle_named
from fewshot_automl.trial import evaluate, step_seconds

ROOT = Path(__file__).resolve().parent.parent
SHOTS = 8
CLOSE = 1e-6
"""Scores that differ by no more are the same: threads change the order of sums."""


class Quiet:
    """Is a listener that says nothing."""

    def say(self, sentence: str) -> None:
        """Hear a sentence."""

    def trial(self, event: Any) -> None:
        """Hear of a trial."""


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and its children that still run."""
    me = psutil.Process()
    times = [one.cpu_times() for one in (me, *me.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def tried(ready: Prepared, configs: list[Any], workers: int) -> dict[str, Any]:
    """Return what an executor made of Configs, and what that took."""
    name = "loky" if workers > 1 else "in_process"
    executor, call = executor_named(name, workers), partial(evaluate, ready.context)
    begun = time.monotonic()
    for config in configs[:workers]:  # imports, weights and activations are had then
        executor.submit(call, config, None)
    while executor.wait():
        pass
    started, cpu = time.monotonic(), cpu_seconds()
    tickets = [executor.submit(call, c, None) for c in configs]
    ended: dict[int, Any] = {}
    while batch := executor.wait():
        ended |= {one.ticket: one.value for one in batch}
    wall, used = time.monotonic() - started, cpu_seconds() - cpu
    executor.shutdown()
    return {
        "workers": workers,
        "first_seconds": round(started - begun, 1),
        "trials_a_minute": round(60 * len(configs) / wall, 2),
        "cpu_seconds_a_trial": round(used / len(configs), 2),
        "scores": [ended[ticket].mean for ticket in tickets],
    }


def main() -> None:
    """Print a JSON line for each number of workers, and what follows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=str(ROOT.parent / "shared/data/trec6.csv"))
    parser.add_argument("--target", default="label")
    parser.add_argument("--backbone", default="minilm-l6")
    parser.add_argument("--workers", type=int, default=usable_cores())
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    table = pd.read_csv(asked.data).groupby(asked.target).head(SHOTS)
    settings = Settings(
        budget_seconds=None,
        trials=1,
        target=asked.target,
        target_kind="classes",
        backbones=(asked.backbone,),
        methods=("contrastive", "partial_freeze", "lora"),
        narrow={"steps": (10, 20)} if asked.quick else {},
        workers=1,
    )
    with tempfile.TemporaryDirectory() as folder:
        line = Timeline(started=time.monotonic())
        ready = prepare(
            read(table, target=asked.target, target_kind="classes"),
            *(table, None, settings, Path(folder) / "out", Quiet(), line),
        )
        trials = 4 if asked.quick else asked.trials
        sobol = oracle_named("sobol")
        configs = sobol.suggest(ready.space, [], trials, 0, lambda config: True)
        every, at_once = step_seconds(ready.context, asked.backbone, usable_cores())
        one, more = (tried(ready, configs, n) for n in (1, asked.workers))
    gaps = [abs(a - b) for a, b in zip(one["scores"], more["scores"], strict=True)]
    best = [max(range(trials), key=row["scores"].__getitem__) for row in (one, more)]
    for row in (one, more):
        print(json.dumps(row))
    times = more["trials_a_minute"] / one["trials_a_minute"]
    facts = {
        "cores": usable_cores(),
        "predicted_times": round(every / at_once, 2),
        "times": round(times, 2),
        "largest_gap": max(gaps),
        "same_winner": best[0] == best[1],
    }
    print(json.dumps(facts))
    sys.exit(0 if max(gaps) <= CLOSE and facts["same_winner"] else 1)


if __name__ == "__main__":
    main()
