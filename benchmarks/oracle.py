"""Replay studies on recorded landscapes: our oracle beside other samplers.

A replay begins with rung 0 (the cheap trials, shown to every sampler and not counted)
and goes on with training trials: a sampler picks an untried Config of those that
`benchmarks/landscape.py` recorded, and gets the recorded scores and seconds. The
model that a study would return is judged by its accuracy on rows that no study sees.
Regret is normalised by what can be gained over guessing: 0 is the best recorded
Config, 1 the majority class.

Past studies that advise are those of the other tasks of the same modality: the task
itself is always left out. Ours returns the Config of the best posterior mean, others
that of the best score (the results hold both for all). All choose within the pool but
TPE and Sobol, which ask for any point and get the nearest recorded one. Every seed
sees a random share of a task's Configs, the same for all rows. "everything" is a search
that had tried them all, and returned the best score. Intervals are bootstrapped over
tasks times seeds.

Neither datasets nor weights are needed. Finished replays are kept (`--curves`); a run
that is broken off goes on, and only rows whose code, settings or data changed are
replayed again. Rows are a table in `benchmarks/parts/replay_rows.py`.

Examples:
    python benchmarks/oracle.py --quick
    python benchmarks/oracle.py --samplers ours random tpe --seeds 5
    python benchmarks/oracle.py --seeds 20 --workers 2
"""

import argparse
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from landscape import LANDSCAPES
from machine import ROOT, stamp
from parts.replay_figures import (
    Interval,
    Regrets,
    Truth,
    cost_to_reach,
    difference,
    interval,
    trials_behind,
    trials_to_match,
    trials_to_reach,
    wide_interval,
)
from parts.replay_jobs import LEAST_TRAINING, curves_of, files_in, jobs_for, load
from parts.replay_plot import draw
from parts.replay_rows import (
    CHEAP,
    EVERYTHING,
    FAIR,
    FULL,
    LUCKIEST,
    ROWS,
    STOCK,
    rule_of,
)
from parts.replay_study import Curve

RESULTS = ROOT / "benchmarks" / "results" / "oracle.jsonl"
ASIDE = Path(tempfile.gettempdir())
READ_AT = (10, 20, 40)
MOST_REGRET, MOST_REGRET_AT = 0.038, 20
AHEAD_OF = ("random", "tpe", "optuna gp")
WRONG, UNADVISED = "wrong prior", "no prior"
MOST_BEHIND, BEHIND_AT = 2, (5, 10, 15, 20, 25, 30)
FEW_SEEDS = 8
"""Seeds of BoTorch's rows and of the ablations."""
QUICK = {"seeds": 2, "tasks": 3, "trials": 10}
SECONDS = np.arange(0.0, 1200.0, 2.0)
"""Where regret over seconds is read."""

Rows = Mapping[str, Regrets]


def regrets_of(curves: Sequence[Curve], trials: int, truth: Truth = "unseen") -> Rows:
    """Return the regrets of each row under its own rule."""
    return {
        row: Regrets.of(
            [curve for curve in curves if curve.sampler == row],
            rule_of(row),
            trials,
            truth,
        )
        for row in dict.fromkeys(curve.sampler for curve in curves)
    }


def figures_of(
    curves: Sequence[Curve], trials: int, unit: Mapping[str, float]
) -> dict[str, Any]:
    """Return all numbers of the table, by row."""
    rows, places = regrets_of(curves, trials), [t for t in READ_AT if t <= trials]
    found: dict[str, Any] = {}
    for row, own in rows.items():
        here = [curve for curve in curves if curve.sampler == row]
        about: dict[str, Any] = {"cells": len(own.cells), "rule": rule_of(row)}
        about["regret"] = {t: rounded(interval(own.values[:, t])) for t in places}
        about["regret over tasks"] = {
            t: rounded(wide_interval(own.values[:, t], own.cells)) for t in places
        }
        for rule in ("smooth", "raw"):
            means = Regrets.of(here, rule, trials).values.mean(axis=0)
            about[f"regret by {rule}"] = {t: round(float(means[t]), 4) for t in places}
        truths: tuple[Truth, ...] = ("recorded", "best_seen")
        for truth in truths:
            means = regrets_of(here, trials, truth)[row].values.mean(axis=0)
            about[f"regret {truth}"] = {t: round(float(means[t]), 4) for t in places}
        about["trials to 0.05"] = trials_to_reach(own, 0.05)
        about["cost to 0.05"] = cost_to_reach(own, 0.05, unit)
        about["seconds to 0.05"] = cost_to_reach(
            own, 0.05, dict.fromkeys(unit, 1.0), SECONDS
        )
        picks = sum(len(curve.seconds) - 1 for curve in here)
        asked = sum(curve.ask_seconds for curve in here)
        about["cpu seconds a pick"] = round(asked / max(picks, 1), 4)
        if FULL in rows and row != FULL:
            gaps = {t: difference(own, rows[FULL], t) for t in places}
            about["more than ours"] = {t: rounded(gap[0]) for t, gap in gaps.items()}
            about["more than ours, over tasks"] = {
                t: rounded(gap[1]) for t, gap in gaps.items()
            }
            about["ours matches its end after"] = trials_to_match(rows[FULL], own)
        if row == WRONG and UNADVISED in rows:
            about["trials behind no prior"] = trials_behind(
                own, rows[UNADVISED], [t for t in BEHIND_AT if t < trials]
            )
        found[row] = about
    return found


def rounded(values: Interval) -> list[float]:
    """Return numbers as they are written down."""
    return [round(value, 4) for value in values]


def show(figures: Mapping[str, Any], trials: int) -> None:
    """Print the tables."""
    places = [t for t in READ_AT if t <= trials]
    width = max(map(len, figures)) + 2

    def spell(values: Sequence[float]) -> str:
        return f"{values[0]:6.3f} [{values[1]:6.3f}, {values[2]:6.3f}]"

    print("\nregret after so many training trials, 95 % interval over tasks x seeds")
    heads = "".join(f"{t:>25}" for t in places)
    print(f"{'':{width}}{heads}  to 0.05: trials  cost     s  CPU s/pick  cells")
    for row, one in figures.items():
        regrets = "".join(f"{spell(one['regret'][t]):>25}" for t in places)
        reached = [
            "-" if one[f"{name} to 0.05"] is None else f"{one[f'{name} to 0.05']:.4g}"
            for name in ("trials", "cost", "seconds")
        ]
        print(
            f"{row:{width}}{regrets}{reached[0]:>17}{reached[1]:>6}{reached[2]:>6}"
            f"{one['cpu seconds a pick']:12.3f}{one['cells']:7}"
        )
    if not any("more than ours" in one for one in figures.values()):
        return
    print("\nregrets more than ours, on the same task and seed")
    print(f"{'':{width}}{heads}  ours matches its end after")
    for row, one in figures.items():
        if "more than ours" in one:
            gaps = "".join(f"{spell(one['more than ours'][t]):>25}" for t in places)
            match = one["ours matches its end after"]
            print(f"{row:{width}}{gaps}{'-' if match is None else match:>15}")
    print("\nregret at the last place: by either rule, of the best tried, by score")
    last = places[-1] if places else None
    for row, one in figures.items():
        if last is not None:
            print(
                f"{row:{width}} posterior mean {one['regret by smooth'][last]:.3f}, "
                f"raw {one['regret by raw'][last]:.3f}, "
                f"best tried {one['regret best_seen'][last]:.3f}, "
                f"cross-validated {one['regret recorded'][last]:.3f}"
            )


def falls_short(figures: Mapping[str, Any], trials: int) -> list[str]:
    """Return the goals that were not reached."""
    if FULL not in figures:
        return [f"not replayed: {FULL}"]
    short = []
    behind = figures.get(WRONG, {}).get("trials behind no prior", math.inf)
    if behind is None or behind > MOST_BEHIND:
        short.append(f"trials a wrong prior costs: {behind}, wanted {MOST_BEHIND}")
    at = figures[FULL]["regret"].get(MOST_REGRET_AT)
    if at is None or at[0] > MOST_REGRET:
        value = "not replayed" if at is None else f"{at[0]:.3f}"
        short.append(
            f"regret after {MOST_REGRET_AT} training trials {value}, "
            f"wanted {MOST_REGRET}"
        )
    for row in AHEAD_OF:
        if row not in figures:
            short.append(f"not replayed: {row}")
            continue
        short += [
            f"{row} after {t}: {gap[0]:.3f} more than ours [{gap[1]:.3f}, {gap[2]:.3f}]"
            for t, gap in figures[row]["more than ours"].items()
            if gap[0] <= 0
        ]
    return short


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--samplers", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW",
        help=f"of {', '.join(ROWS)}; default: all",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument(
        "--few-seeds", type=int, default=None,
        help=f"of BoTorch's rows and the ablations; default {FEW_SEEDS} at most",
    )  # fmt: skip
    parser.add_argument("--tasks", nargs="+", default=None, help="default: all")
    parser.add_argument(
        "--trials", type=int, default=40, help="training ones, of a study"
    )
    parser.add_argument(
        "--share",
        type=float,
        default=0.6,
        help="of the training Configs, for each seed",
    )
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--folder", type=Path, default=LANDSCAPES)
    parser.add_argument(
        "--curves", type=Path, default=ASIDE / "oracle_curves.jsonl",
        help="where finished replays are kept; default %(default)s",
    )  # fmt: skip
    parser.add_argument("--plot", type=Path, default=None, help="PNG")
    parser.add_argument("--out", type=Path, default=None, help="results, JSON Lines")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="2 seeds, 3 tasks, 10 trials; results apart",
    )
    return parser.parse_args()


def main() -> None:
    """Run from the command line."""
    given = parse_arguments()
    files = files_in(given.folder)
    landscapes = load(files)
    able = [
        name for name, one in landscapes.items() if len(one.training) >= LEAST_TRAINING
    ]
    tasks = [name for name in given.tasks or able if name in able]
    if not tasks:
        raise SystemExit(f"{given.folder} must hold landscapes, got none that will do.")
    seeds, trials = given.seeds, given.trials
    is_whole = not given.quick and not given.tasks and set(given.samplers) >= set(ROWS)
    if given.quick:
        tasks = tasks[: QUICK["tasks"]]
        seeds, trials = QUICK["seeds"], QUICK["trials"]
    out = given.out or (RESULTS if is_whole else ASIDE / RESULTS.name)
    plot = given.plot or out.with_suffix(".png")
    few = given.few_seeds or (1 if given.quick else min(seeds, FEW_SEEDS))
    many = {FULL, *CHEAP}
    counts = {row: seeds if row in many else few for row in given.samplers}
    jobs = jobs_for(files, tasks, counts, trials=trials, share=given.share)
    for name in tasks:
        one = landscapes[name]
        print(
            f"{name:14}{len(one.cheap):4} cheap {len(one.training):4} training",
            flush=True,
        )
    print("Of each task's own trials, none advises it: the prior leaves them out.")
    curves = list(curves_of(jobs, given.curves, given.workers))
    unit = {
        name: float(
            np.mean([t.outcome.cost_seconds for t in landscapes[name].training])
        )
        for name in tasks
    }
    order = {row: place for place, row in enumerate(given.samplers)}
    curves.sort(key=lambda curve: order[curve.sampler])
    curves += [replace(one, sampler=LUCKIEST) for one in curves if one.sampler == FULL]
    figures = figures_of(curves, trials, unit)
    show(figures, trials)
    rows = regrets_of(curves, trials)
    floor = rows[EVERYTHING].values[:, 0].mean() if EVERYTHING in rows else None
    draw(
        {row: one for row, one in rows.items() if row != EVERYTHING},
        (FULL, FAIR, *STOCK),
        (*(row for row in ROWS if row not in (*STOCK, FAIR, EVERYTHING)), LUCKIEST),
        floor=floor,
        unit=unit,
        title=f"{len(tasks)} tasks, {seeds} seeds; mean and 95 % interval",
        file=plot,
    )
    print(f"\npicture: {plot}")
    report = {
        "benchmark": "oracle",
        "tasks": {name: len(landscapes[name].training) for name in tasks},
        "seeds": seeds,
        "share": given.share,
        "figures": figures,
        "falls_short": falls_short(figures, trials),
    }
    with out.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**stamp(), **report}) + "\n")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
