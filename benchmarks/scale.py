"""Simulate studies on clusters of 1 to 64 workers, in simulated time.

The study's loop is the real one, with a clock that only moves by what was measured:
seconds of recorded trials (`benchmarks/landscape.py`), of suggestions by history length
and of a trial's record, both timed here at the start in CPU seconds of one thread.
Some trials are stragglers, and some lose their machine and run again, as in the
executor `ray`.

The first table is of studies of a fixed wall time on two tasks, of which the oracle is
only the time it takes: trials done, the second at which so many were done (makespan),
the share of worker seconds that went into trials that count (utilisation), the share of
the time in which the driver was busy, and its seconds for each trial. The second table
is of studies of a fixed number of training trials on recorded landscapes with the real
oracle: the regret of the model that each returns, beside that of a sequential study of
the same task and seed. More workers know less when they choose.

Neither datasets nor weights are needed.

Examples:
    python benchmarks/scale.py --quick
    python benchmarks/scale.py --seeds 3
"""

import argparse
import heapq
import json
import math
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from landscape import LANDSCAPES
from machine import stamp
from parts.replay_jobs import files_in, load, scene_of
from parts.replay_landscape import Landscape
from parts.replay_rows import ROWS, Scene, nearest
from threadpoolctl import threadpool_limits

from fewshot_automl.executors import Finished
from fewshot_automl.ledger import Ledger
from fewshot_automl.oracle import GpOracle, RandomOracle
from fewshot_automl.oracle.oracle import tried
from fewshot_automl.oracle.scores import calm
from fewshot_automl.outcome import History, Outcome
from fewshot_automl.space import Config, Space
from fewshot_automl.study import Budget, Study, loop, run

WORKERS = (1, 2, 4, 8, 16, 32, 64)
REGRET_AT = (1, 4, 16, 32)
BUDGET_SECONDS, COUNTED = 300.0, 200
"""Of a study of the first table; the trials whose time is its makespan."""
STRAGGLERS, SLOW = 0.05, 4.0
"""Share of trials that take so many times as long as they did."""
LOST = 0.02
"""Share of trials whose machine is lost at a random moment; they run again."""
TRIALS, SHARE = 40, 0.6
"""Training trials of a study of the second table, and the share of the recorded ones
that it may choose from, as in `benchmarks/oracle.py`."""
LENGTHS, BATCHES = (25, 75, 150, 300, 450), (1, 8)
LEAST_USED, MOST_MORE, GOAL_AT = 0.85, 1.1, 16


@dataclass
class Clock:
    """Simulated time, and what of it the driver was busy."""

    now: float = 0.0
    busy: float = 0.0
    is_ahead: bool = False
    """Whether the oracle thinks in its own thread now."""
    thought_until: float = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def spend(self, seconds: float) -> None:
        """Let the driver work; what it thinks ahead takes no time of the loop."""
        self.busy += seconds
        if self.is_ahead:
            self.thought_until = self.now + seconds
        else:
            self.now += seconds


class Inline:
    """Stands for the loop's thread of thoughts."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def __enter__(self) -> "Inline":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Run a call at once; its seconds pass beside those of the loop."""
        future: Future[Any] = Future()
        self.clock.is_ahead = True
        future.set_result(function(*arguments))
        self.clock.is_ahead = False
        return future


@dataclass
class Cluster:
    """An executor whose workers take recorded seconds."""

    clock: Clock
    slots: int
    luck: np.random.Generator
    end: float = math.inf
    """After this nothing runs."""
    used: float = 0.0
    """Worker seconds that went into trials that count."""
    running: list[tuple[float, int, Any]] = field(default_factory=list)
    submitted: int = 0
    ends: list[float] = field(default_factory=list)
    is_calm: bool = False
    """Whether there are no stragglers and no losses."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> int:
        """Begin a trial, whose end is known."""
        outcome, start = function(*arguments), self.clock.now
        seconds = outcome.cost_seconds
        if not self.is_calm and self.luck.random() < STRAGGLERS:
            seconds *= SLOW
        if not self.is_calm and self.luck.random() < LOST:
            start += seconds * self.luck.random()
        end = min(start + seconds, self.end)
        self.used += max(0.0, end - start)
        heapq.heappush(self.running, (end, self.submitted, outcome))
        self.submitted += 1
        return self.submitted - 1

    def wait(self, timeout_seconds: float | None = None) -> list[Finished]:
        """Let the time pass until a trial ends, and any thought that began before."""
        clock, done = self.clock, []
        if self.running:
            clock.now = max(clock.now, self.running[0][0])
        while self.running and self.running[0][0] <= clock.now:
            end, ticket, outcome = heapq.heappop(self.running)
            self.ends.append(end)
            done.append(Finished(ticket=ticket, value=outcome))
        clock.now = max(clock.now, clock.thought_until)
        return done

    def shutdown(self) -> None:
        """Do nothing."""


class Memory:
    """A ledger without a disk; what that takes is spent on the clock."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock, self.seconds = clock, seconds
        self.rows: list[tuple[Config, Outcome]] = []

    def start(self, config: Config) -> int:
        """Record a trial as running."""
        self.clock.spend(self.seconds)
        self.rows.append((config, Outcome(status="running")))
        return len(self.rows) - 1

    def finish(self, number: int, outcome: Outcome) -> None:
        """Record what became of it."""
        self.rows[number] = (self.rows[number][0], outcome)

    def history(self) -> list[tuple[Config, Outcome]]:
        """Return all trials."""
        return list(self.rows)

    def note(self, key: str, value: Any, *, is_own: bool = False) -> None:
        """Forget it."""

    def notes(self) -> dict[str, Any]:
        """Return nothing."""
        return {}


@dataclass(frozen=True)
class Costs:
    """What the driver was measured to take, in CPU seconds."""

    suggestion: dict[int, dict[int, float]]
    """By Configs asked for at once, by length of the history."""
    record: float
    """For a trial's start and end in a journal."""

    def seconds(self, history: int, n: int) -> float:
        """Return what a suggestion takes; beyond what was measured, as at its end."""
        few, many = (
            float(np.interp(history, [*row], [*row.values()]))
            for row in self.suggestion.values()
        )
        low, high = self.suggestion
        return few + (many - few) * (n - low) / (high - low)


@dataclass
class Timed:
    """An oracle that takes its time on the simulated clock."""

    ask: Callable[[History, int, int], list[Config]]
    clock: Clock
    costs: Costs

    def suggest(
        self, space: Space, history: History, n: int, seed: int, allows: Any = None
    ) -> list[Config]:
        """Return what is asked for."""
        found = self.ask(history, n, seed)
        if found:
            self.clock.spend(self.costs.seconds(len(history), n))
        return found


def measured(landscape: Landscape) -> Costs:
    """Time the oracle on recorded histories, and the ledger.

    Longer ones go on with random Configs and the outcomes of the nearest recorded.
    """
    space, oracle = landscape.space, GpOracle()
    rows = [(t.config, t.outcome) for t in landscape.trials.values()]
    known = [trial.config for trial in landscape.training]
    more = RandomOracle().suggest(space, rows, LENGTHS[-1] - len(rows), 0)
    rows += [(c, landscape.trials[nearest(landscape, c, known)].outcome) for c in more]
    seconds: dict[int, dict[int, float]] = {n: {} for n in BATCHES}
    oracle.suggest(space, rows[:10], 1, 0)  # imports
    for n in BATCHES:
        for length in LENGTHS:
            start = time.process_time()
            oracle.suggest(space, rows[:length], n, length)
            seconds[n][length] = time.process_time() - start
    with TemporaryDirectory() as folder:
        ledger = Ledger.open(folder, study="s", space=space)
        start = time.process_time()
        for config, outcome in rows[:20]:
            number = ledger.start(config)
            assert number is not None
            ledger.finish(number, outcome)
        record = (time.process_time() - start) / 20
    return Costs(suggestion=seconds, record=record)


def simulated(
    workers: int,
    costs: Costs,
    ask: Callable[[History, int, int], list[Config]],
    evaluate: Callable[[Config, float | None], Outcome],
    opening: Sequence[Config],
    *,
    seed: int,
    seconds: float | None = None,
    trials: int | None = None,
    expected: float = 10.0,
    is_calm: bool = False,
) -> tuple[Clock, Cluster, History]:
    """Run a study on a simulated cluster to its end."""
    clock = Clock()
    luck = np.random.default_rng([seed, workers])
    cluster = Cluster(clock, workers, luck, seconds or math.inf, is_calm=is_calm)
    ledger: Any = Memory(clock, costs.record)
    study = Study(
        space=Space(()),
        evaluate=evaluate,
        oracle=Timed(ask, clock, costs),
        ledger=ledger,
        executor=cluster,
        budget=Budget(started=0.0, seconds=seconds, trials=trials),
        opening=lambda history: opening,
        expected_seconds=lambda config, history: expected,
        thinks_ahead=workers > 1,
        seed=seed,
        clock=clock,
    )
    with patch.object(loop, "ThreadPoolExecutor", lambda max_workers: Inline(clock)):
        end = run(study)
    return clock, cluster, end.history


def busy_cluster(
    landscape: Landscape, workers: int, costs: Costs, seed: int, *, is_calm: bool
) -> dict[str, float]:
    """Return how a study of a fixed time uses a cluster."""
    recorded = [t.outcome for t in landscape.training if t.outcome.is_done]
    luck = np.random.default_rng(seed)

    def ask(history: History, n: int, seed: int) -> list[Config]:
        return [Config.of({"trial": len(history) + k}) for k in range(n)]

    def evaluate(config: Config, allowance: float | None) -> Outcome:
        return recorded[luck.integers(len(recorded))]

    middle = float(np.median([one.cost_seconds for one in recorded]))
    clock, cluster, history = simulated(
        workers, costs, ask, evaluate, (),
        seed=seed, seconds=BUDGET_SECONDS, expected=middle, is_calm=is_calm,
    )  # fmt: skip
    ends = sorted(cluster.ends)
    return {
        "trials": len(history),
        "makespan": ends[COUNTED - 1] if len(ends) >= COUNTED else math.nan,
        "utilisation": cluster.used / workers / BUDGET_SECONDS,
        "driver": clock.busy / BUDGET_SECONDS,
        "driver seconds a trial": clock.busy / len(history),
    }


def regret(scene: Scene, workers: int, costs: Costs, seed: int, trials: int) -> float:
    """Return the regret of the model that a study of so many trials returns."""
    landscape = scene.landscape
    oracle, paid = GpOracle(prior=scene.prior), {t.stem for t in landscape.cheap}

    def ask(history: History, n: int, seed: int) -> list[Config]:
        from fewshot_automl.oracle.acquisition import Search

        seen = tried(history)
        left = [t.config for t in landscape.training if t.config not in seen]
        if sum(o.is_done for _, o in history) < oracle.initial_trials:
            luck = np.random.default_rng(seed)  # the real one takes Sobol points
            return [left[i] for i in luck.permutation(len(left))[:n]]
        with calm(seed):
            search = Search(landscape.space, history, oracle, seed, n)
            return search.best(left, search.gains(left), n) if left else []

    def evaluate(config: Config, allowance: float | None) -> Outcome:
        return landscape.outcome(landscape.trials[config], paid)

    cheap = [trial.config for trial in landscape.cheap]
    _, _, history = simulated(
        workers, costs, ask, evaluate, cheap, seed=seed, trials=len(cheap) + trials
    )
    mean = ROWS["ours"](scene).mean
    assert mean is not None
    return landscape.regret(history[mean(history, seed)][0])


def falls_short(clusters: dict[str, Any], regrets: dict[int, Any]) -> list[str]:
    """Return the goals that were not reached."""
    used = clusters[f"{GOAL_AT}"]["utilisation"]
    more = regrets[GOAL_AT]["mean"] / max(regrets[1]["mean"], 1e-9)
    short = []
    if used < LEAST_USED:
        short.append(f"utilisation {used:.2f} at {GOAL_AT}, wanted {LEAST_USED}")
    if more > MOST_MORE:
        short.append(
            f"regret at {GOAL_AT} workers {more:.2f} of sequential, wanted {MOST_MORE}"
        )
    return short


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--tasks", nargs="+", default=None, help="default: all")
    parser.add_argument("--folder", type=Path, default=LANDSCAPES)
    parser.add_argument(
        "--quick", action="store_true", help="2 seeds, 20 trials, 16 workers beside 1"
    )
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    landscapes = load(files_in(given.folder))
    tasks = given.tasks or list(landscapes)
    seeds, at, workers, trials = given.seeds, REGRET_AT, WORKERS, TRIALS
    if given.quick:
        seeds, at, trials = 2, (1, GOAL_AT), 20
    with threadpool_limits(1):
        costs = measured(landscapes[tasks[0]])
        print("CPU seconds of a suggestion, by length of the history")
        for n, row in costs.suggestion.items():
            cells = "".join(f"{length:>6}: {s:.2f}" for length, s in row.items())
            print(f"{n:>3} at once {cells}", flush=True)
        print(f"CPU seconds of a trial's record: {costs.record:.3f}\n")
        clusters = {}
        print(
            "workers  trials  makespan  utilisation  driver  s/trial  calm: utilisation"
        )
        for count in workers:
            rows: dict[bool, dict[str, float]] = {}
            for is_calm in (False, True):
                found = [
                    busy_cluster(landscapes[t], count, costs, s, is_calm=is_calm)
                    for t in tasks[:2]
                    for s in range(seeds)
                ]
                rows[is_calm] = {
                    k: float(np.mean([one[k] for one in found])) for k in found[0]
                }
            row = {**rows[False], "calm utilisation": rows[True]["utilisation"]}
            clusters[str(count)] = {k: round(v, 4) for k, v in row.items()}
            print(
                f"{count:>7}{row['trials']:8.0f}{row['makespan']:10.0f}"
                f"{row['utilisation']:13.3f}{row['driver']:8.2f}"
                f"{row['driver seconds a trial']:9.2f}{row['calm utilisation']:19.3f}",
                flush=True,
            )
        print(f"\nregret after {trials} training trials; more than one worker's")
        values: dict[int, np.ndarray] = {}
        regrets = {}
        for count in at:
            cells = []
            for task in tasks:
                for seed in range(seeds):
                    scene = scene_of(landscapes, task)
                    part = replace(scene, landscape=scene.landscape.part(SHARE, seed))
                    cells.append(regret(part, count, costs, seed, trials))
            values[count] = np.array(cells)
            gap = values[count] - values[1]
            error = 1.96 * gap.std(ddof=1) / math.sqrt(len(gap)) if len(gap) > 1 else 0
            regrets[count] = {
                "mean": round(float(values[count].mean()), 4),
                "more": [round(float(x), 4) for x in (gap.mean(), error)],
            }
            print(
                f"{count:>7}{values[count].mean():8.4f}{gap.mean():+9.4f}"
                f" +- {error:.4f}  ({len(cells)} studies)",
                flush=True,
            )
    report = {
        "benchmark": "scale",
        **stamp(),
        "figures": {
            "suggestion": costs.suggestion,
            "record": round(costs.record, 4),
            "clusters": clusters,
            "regret": regrets,
        },
        "falls_short": falls_short(clusters, regrets),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
