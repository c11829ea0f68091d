"""Distil recorded landscapes into the prior that the package ships, and judge it.

Each task is judged with the prior of the other tasks of its modality, as a new study
would be: does what the prior would try first beat a random Config, and how well does it
rank the training Configs, by accuracy on rows that no study sees? Then studies are
replayed without a prior, with it, and with a wrong one (all scores turned round).

Examples:
    python benchmarks/prior.py --quick
    python benchmarks/prior.py --out fewshot_automl/oracle/priors/default.json
    python benchmarks/prior.py --folder /tmp/landscapes --seeds 0
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from landscape import LANDSCAPES
from machine import stamp
from parts.replay_landscape import Landscape
from parts.replay_rows import Scene, ours
from parts.replay_study import replay
from scipy.stats import spearmanr

from fewshot_automl.oracle import Prior
from fewshot_automl.outcome import History

LEAST_TRAINING = 8
"""Recorded training trials below which a task is not judged."""
SHARE = 0.5
"""Of the training trials, that a replay may choose from."""
MOST_LOST = 2
"""Trials that a wrong prior may cost."""
FIRST = 3
"""Backbones among which the best one should be."""
WANTED = 0.8
"""Share of tasks in which it should be."""
QUICK = {"tasks": 3, "seeds": 1, "trials": 6}


@dataclass(frozen=True)
class Judged:
    """What the prior of the other tasks says of one task."""

    task: str
    training: int
    """How many training Configs it has to rank."""
    regret: tuple[float, float, float]
    """Of the first pick knowing nothing, of the first after rung 0, and on average."""
    correlation: tuple[float, float]
    """Spearman, with unseen accuracies of trained Configs, before and after rung 0."""
    backbone: int
    """Place that it gives the best backbone, before any trial."""
    trust: tuple[float, float]
    """In the prior, and in the one turned round, after rung 0."""


def history_of(landscape: Landscape, *, cheap_only: bool) -> History:
    """Return the trials of a landscape, or only the cheap ones."""
    trials = landscape.cheap if cheap_only else landscape.trials.values()
    return [(trial.config, trial.outcome) for trial in trials]


def built(landscapes: Sequence[Landscape]) -> Prior:
    """Return the prior of some tasks, which are named as they are."""
    return Prior.build(
        {
            one.name: (one.space, history_of(one, cheap_only=False))
            for one in landscapes
        },
        kinds={one.name: one.facts.modality for one in landscapes},
    )


def wrong(prior: Prior) -> Prior:
    """Return the prior that recommends what was bad."""
    return Prior(
        studies=tuple(
            replace(study, scores=tuple(-score for score in study.scores))
            for study in prior.studies
        )
    )


def judge(landscape: Landscape, prior: Prior) -> Judged:
    """Compare what a prior says of a task with what was recorded."""
    done = [trial for trial in landscape.training if trial.outcome.is_done]
    configs, unseen = [t.config for t in done], np.array([t.unseen for t in done])
    regrets = [landscape.regret(config) for config in configs]
    rung_zero = history_of(landscape, cheap_only=True)
    said = [prior.advice(landscape.space, h)(configs) for h in ([], rung_zero)]
    picks = [regrets[int(column.argmax())] for column in said]
    names = [config.text("backbone") for config in configs]
    best, hoped = [
        {name: best_of(name, names, column) for name in set(names)}
        for column in (unseen, said[0])
    ]
    order = sorted(hoped, key=lambda name: -hoped[name])
    return Judged(
        task=landscape.name,
        training=len(done),
        regret=(picks[0], picks[1], float(np.mean(regrets))),
        correlation=tuple(float(spearmanr(column, unseen)[0]) for column in said),  # type: ignore[arg-type]
        backbone=1 + order.index(max(best, key=lambda name: best[name])),
        trust=tuple(  # type: ignore[arg-type]
            float(one.weights(landscape.space, rung_zero).sum())
            for one in (prior, wrong(prior))
        ),
    )


def best_of(name: str, names: Sequence[str], values: np.ndarray) -> float:
    """Return the mean of a backbone's best three values."""
    own = sorted(value for value, n in zip(values, names, strict=True) if n == name)
    return float(np.mean(own[-3:]))


def replayed(
    landscape: Landscape, prior: Prior, *, seeds: int, trials: int
) -> dict[str, np.ndarray]:
    """Return the regret of the best tried so far: a row a seed, a column a trial."""
    found = {}
    for name, one in (("none", Prior()), ("prior", prior), ("wrong", wrong(prior))):
        curves = []
        for seed in range(seeds):
            part = landscape.part(SHARE, seed)
            row = ours(Scene(part, ()), prior=one)
            count = min(trials, len(part.training))
            regrets = replay(part, row, count, seed=seed, name=name).best_seen
            curves.append(np.pad(regrets, (0, trials - count), mode="edge"))
        found[name] = np.stack(curves)
    return found


def trials_lost(without: np.ndarray, with_it: np.ndarray) -> int | None:
    """Return how many more trials the second mean curve needs at worst.

    None where it does not come as low within the replay.
    """
    own, other = without.mean(axis=0), with_it.mean(axis=0)
    lost = []
    for place, regret in enumerate(own):
        reached = np.flatnonzero(other <= regret + 1e-9)
        if not len(reached):
            return None
        lost.append(int(reached[0]) - place)
    return max(lost)


def show(rows: Sequence[Judged]) -> None:
    """Print what the priors say of the tasks they have not seen."""
    print(
        f"{'task':14} training  regret of first pick  after rung 0  random"
        "   rank corr.  after   best backbone   trust  if wrong"
    )
    for row in rows:
        first, after, usual = row.regret
        before, later = row.correlation
        print(
            f"{row.task:14} {row.training:4} {first:21.3f} {after:13.3f} {usual:7.3f}"
            f"{before:13.2f} {later:6.2f} {row.backbone:15} {row.trust[0]:7.2f} "
            f"{row.trust[1]:9.2f}"
        )


def figures_of(rows: Sequence[Judged]) -> dict[str, Any]:
    """Return means over the tasks."""
    regrets = np.array([row.regret for row in rows])
    return {
        "tasks": len(rows),
        "regret of first pick": round(float(regrets[:, 0].mean()), 4),
        "regret of first pick after rung 0": round(float(regrets[:, 1].mean()), 4),
        "regret of a random Config": round(float(regrets[:, 2].mean()), 4),
        "rank correlation": [
            round(float(x), 3) for x in np.mean([r.correlation for r in rows], axis=0)
        ],
        "best backbone in first three": round(
            float(np.mean([row.backbone <= FIRST for row in rows])), 3
        ),
        "trust": [round(float(x), 3) for x in np.mean([r.trust for r in rows], axis=0)],
    }


def main() -> None:
    """Build the prior, judge it, and write it if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=LANDSCAPES)
    parser.add_argument("--out", type=Path, help="where to write the prior")
    parser.add_argument("--seeds", type=int, default=5, help="replays of a task")
    parser.add_argument("--trials", type=int, default=20, help="of a replay")
    parser.add_argument("--quick", action="store_true", help="few tasks and trials")
    given = parser.parse_args()
    tasks, seeds, trials = None, given.seeds, given.trials
    if given.quick:
        tasks, seeds, trials = QUICK["tasks"], QUICK["seeds"], QUICK["trials"]
    landscapes = [Landscape.load(file) for file in sorted(given.folder.glob("*.jsonl"))]
    if not landscapes:
        raise SystemExit(f"{given.folder} must hold landscapes; see landscape.py.")
    figures = run(built(landscapes), landscapes, tasks, seeds, trials, given.out)
    print(json.dumps({"benchmark": "prior", **stamp(), **figures}))


def run(
    prior: Prior,
    landscapes: Sequence[Landscape],
    tasks: int | None,
    seeds: int,
    trials: int,
    out: Path | None,
) -> dict[str, Any]:
    """Judge a prior, print the tables and return the figures."""
    out = out or Path(tempfile.mkdtemp()) / "prior.json"
    prior.write(out)
    size = out.stat().st_size / 1000
    print(f"{len(prior.studies)} studies, {size:.0f} kB, key {prior.key}, in {out}\n")
    print("Each task is judged with a prior that leaves its own study out.\n")
    judged = [one for one in landscapes if len(one.training) >= LEAST_TRAINING][:tasks]
    others = {
        one.name: prior.without(one.name).about(one.facts.modality) for one in judged
    }
    rows = [judge(one, others[one.name]) for one in judged]
    figures: dict[str, Any] = {"figures": {}, "falls_short": []}
    if not rows:
        figures["falls_short"].append(f"no task has {LEAST_TRAINING} training trials")
        return figures
    show(rows)
    figures["figures"] = said = figures_of(rows)
    if said["best backbone in first three"] < WANTED:
        share = said["best backbone in first three"]
        figures["falls_short"].append(f"best backbone in first three: {share}")
    if seeds:
        once = partial(replayed, seeds=seeds, trials=trials)
        curves = [once(one, others[one.name]) for one in judged]
        said |= compare(curves, trials)
        lost = said["trials lost"]["wrong"]
        if lost is None or lost > MOST_LOST:
            figures["falls_short"].append(f"trials a wrong prior costs: {lost}")
    return figures


def compare(curves: Sequence[dict[str, np.ndarray]], trials: int) -> dict[str, Any]:
    """Print and return the replays, all tasks and seeds together."""
    pooled = {
        name: np.concatenate([one[name] for one in curves])
        for name in ("none", "prior", "wrong")
    }
    places = [t for t in (1, 2, 3, 5, 10, 20) if t <= trials]
    print("\nregret of the best tried, after so many training trials")
    print(f"{'':8}" + "".join(f"{t:8}" for t in places))
    means = {}
    for name, rows in pooled.items():
        means[name] = {t: round(float(rows[:, t].mean()), 4) for t in places}
        print(f"{name:8}" + "".join(f"{means[name][t]:8.3f}" for t in places))
    lost = {
        name: trials_lost(pooled["none"], pooled[name]) for name in ("prior", "wrong")
    }
    print(f"trials more than none needs, at worst: {lost}\n")
    return {"regret of the best tried": means, "trials lost": lost}


if __name__ == "__main__":
    main()
