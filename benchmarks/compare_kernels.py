"""Compare kernels of the surrogate on recorded trials.

For each recorded task the quick trials and some random dear ones are told to a
Gaussian process, which then predicts the scores of all other dear ones of the task.
Each kernel is tuned by the same likelihood with the same priors; they differ in what
they see of a Config:

- product: ours; groups of conditional dimensions multiply, inactive ones do not count
- arc: every conditional number on an arc, inactive at its centre, one distance for all
  (Hutter and Osborne, arXiv:1310.5738)
- flat: inactive numbers at the middle of their range, one distance for all (what stock
  mixed kernels see)
- identity: product, backbones as names only
- descriptors: product, backbones as numbers only

Examples:
    python benchmarks/compare_kernels.py --quick
    python benchmarks/compare_kernels.py --seeds 10 --trials 10 20 40
    python benchmarks/compare_kernels.py --advised
"""

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from fewshot_automl.oracle.advice import Adviser
from fewshot_automl.oracle.likelihood import Pairs
from fewshot_automl.oracle.linear import single_threaded
from fewshot_automl.oracle.surrogate import likelihood_of, standardised, tuned
from fewshot_automl.oracle.transfer import TransferAdviser
from machine import ROOT, stamp
from parts.replay_ablations import Scene, prior_for
from parts.replay_landscape import Landscape
from scipy.stats import norm, spearmanr

from fewshot_automl.oracle.encoding import Encoding, Layout
from fewshot_automl.space import Choice, Config, Space

LANDSCAPES = ROOT / "benchmarks" / "landscapes"
RESULTS = ROOT / "benchmarks" / "results" / "compare_kernels.jsonl"
FLOOR = 1e-4

View = Callable[[Space, list[Config]], tuple[np.ndarray, Layout]]


def product(space: Space, configs: list[Config]) -> tuple[np.ndarray, Layout]:
    """Return rows and layout as our oracle has them."""
    encoding = Encoding(space)
    return encoding.encode(configs), encoding.layout


def flat(space: Space, configs: list[Config]) -> tuple[np.ndarray, Layout]:
    """Return the same rows as if every dimension always counted."""
    rows, layout = product(space, configs)
    columns = len(layout.continuous) + len(layout.categorical)
    return rows[:, :columns], Layout(
        continuous=(0,) * len(layout.continuous),
        categorical=(0,) * len(layout.categorical),
        groups=1,
    )


def arc(space: Space, configs: list[Config]) -> tuple[np.ndarray, Layout]:
    """Return rows whose conditional numbers lie on arcs around their absence."""
    rows, layout = product(space, configs)
    flags = np.hstack([np.ones((len(rows), 1)), rows[:, layout.flags]])
    columns = []
    for column, group in enumerate(layout.continuous):
        values = rows[:, column]
        if not group:
            columns.append(values)
            continue
        on, angle = flags[:, group], math.pi / 2 * values
        columns += [on * np.sin(angle), on * np.cos(angle)]
    options = rows[:, len(layout.continuous) : layout.flags.start]
    return np.hstack([np.array(columns).T, options]), Layout(
        continuous=(0,) * len(columns),
        categorical=(0,) * len(layout.categorical),
        groups=1,
    )


def identity(space: Space, configs: list[Config]) -> tuple[np.ndarray, Layout]:
    """Return rows in which a backbone is a name."""
    return product(
        Space(
            tuple(
                replace(d, descriptors=None) if isinstance(d, Choice) else d
                for d in space.dimensions
            )
        ),
        configs,
    )


def descriptors(space: Space, configs: list[Config]) -> tuple[np.ndarray, Layout]:
    """Return rows in which a backbone is its descriptors."""
    rows, layout = product(space, configs)
    described = [
        isinstance(d, Choice) and d.descriptors is not None
        for d in space.dimensions
        if isinstance(d, Choice) and len(d.options) > 1
    ]
    first = len(layout.continuous)
    dropped = [first + i for i, has in enumerate(described) if has]
    kept = [i not in dropped for i in range(layout.width)]
    return rows[:, kept], replace(
        layout,
        categorical=tuple(
            g for g, has in zip(layout.categorical, described, strict=True) if not has
        ),
    )


VIEWS: dict[str, View] = {
    "product": product,
    "arc": arc,
    "flat": flat,
    "identity": identity,
    "descriptors": descriptors,
}


@dataclass(frozen=True)
class Judged:
    """How well one kernel predicted one task after one history."""

    kernel: str
    task: str
    trials: int
    seed: int
    log_density: float
    """Mean log predictive density of the scores, in units of their spread."""
    rank_correlation: float
    top: float
    """Unseen-row accuracy of the Config predicted best, less the mean of all."""


def judged(
    name: str,
    landscape: Landscape,
    trials: int,
    seed: int,
    advisers: tuple[Adviser, ...] = (),
) -> Judged:
    """Tell a kernel some trials and let it predict the others."""
    rng = np.random.default_rng([seed, trials])
    order = rng.permutation(len(landscape.dear))
    dear = [landscape.dear[i] for i in order]
    told = [t for t in (*landscape.quick, *dear[:trials]) if t.outcome.is_done]
    left = [t for t in dear[trials:] if t.outcome.is_done]
    rows, layout = VIEWS[name](landscape.space, [t.config for t in (*told, *left)])
    count = len(told)
    configs, history = (
        [t.config for t in (*told, *left)],
        [(t.config, t.outcome) for t in told],
    )
    said = [one.advise(landscape.space, history, configs) for one in advisers]
    rows = np.hstack([rows, *said])
    weights = tuple(pair for one in advisers for pair in one.weights)
    layout = replace(layout, advice=weights)
    scores = standardised(
        np.array([t.outcome.mean for t in told]),
        np.array([t.outcome.standard_error for t in told]),
    )
    pairs = Pairs(layout, rows[:count])
    likelihood = likelihood_of(pairs, scores, FLOOR)
    logs = tuned(likelihood, likelihood.priors.log_modes, 60)
    points = likelihood.process(rows[:count], logs).look_up(rows[count:])
    truth = np.array([t.outcome.mean for t in left])
    errors = np.array([t.outcome.standard_error for t in left]) / scores.unit
    noise = math.exp(logs[-1]) * errors**2
    deviations = np.sqrt(np.maximum(points.variances(), 0) + noise)
    unseen = np.array([t.unseen for t in left])
    return Judged(
        name,
        landscape.name,
        trials,
        seed,
        float(
            norm.logpdf(
                (truth - scores.centre) / scores.unit, points.means, deviations
            ).mean()
        ),
        float(spearmanr(points.means, unseen).statistic),
        float(unseen[np.argmax(points.means)] - unseen.mean()),
    )


def main() -> None:
    """Compare the kernels and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=LANDSCAPES)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 20, 40])
    parser.add_argument(
        "--advised", action="store_true", help="beside the advice that a study has"
    )
    parser.add_argument("--quick", action="store_true", help="3 tasks, 2 seeds")
    given = parser.parse_args()
    files = sorted(given.folder.glob("*.jsonl"))
    seeds = 2 if given.quick else given.seeds
    landscapes = [
        Landscape.load(file) for file in (files[:3] if given.quick else files)
    ]
    found: list[Judged] = []
    with single_threaded():
        for landscape in landscapes:
            others = tuple(
                one
                for one in landscapes
                if one is not landscape
                and one.facts.modality == landscape.facts.modality
            )
            advisers: tuple[Adviser, ...] = ()
            if given.advised:
                advisers = (TransferAdviser(), prior_for(Scene(landscape, others)))
            for trials in given.trials:
                if trials + 10 > len(landscape.dear):
                    continue
                for name in VIEWS:
                    found += [
                        judged(name, landscape, trials, seed, advisers)
                        for seed in range(seeds)
                    ]
            print(f"{landscape.name} done", flush=True)
    figures = table(found, given.trials)
    RESULTS.parent.mkdir(exist_ok=True)
    if not given.quick:
        with RESULTS.open("a") as file:
            line = {**stamp(), "advised": given.advised, "figures": figures}
            file.write(json.dumps(line) + "\n")
    best = max(figures, key=lambda name: figures[name]["log_density"])
    short = [] if best == "product" else [f"{best} predicts better than product"]
    print(
        json.dumps(
            {"benchmark": "compare_kernels", "figures": figures, "falls_short": short}
        )
    )


def table(found: list[Judged], trials: list[int]) -> dict[str, dict[str, float]]:
    """Print and return the means, and differences to ours with standard errors."""
    print(
        f"{'kernel':12} {'log density':>12} {'rank':>6} {'top':>6}"
        "   less ours (+- 2 se)"
    )
    figures = {}
    ours = {(j.task, j.trials, j.seed): j for j in found if j.kernel == "product"}
    for name in VIEWS:
        mine = [j for j in found if j.kernel == name]
        gaps = np.array(
            [j.log_density - ours[j.task, j.trials, j.seed].log_density for j in mine]
        )
        figures[name] = {
            "log_density": float(np.mean([j.log_density for j in mine])),
            "rank_correlation": float(np.mean([j.rank_correlation for j in mine])),
            "top": float(np.mean([j.top for j in mine])),
            "less_ours": float(gaps.mean()),
            "two_errors": float(2 * gaps.std() / math.sqrt(max(len(gaps), 1))),
        }
        row = figures[name]
        print(
            f"{name:12} {row['log_density']:12.3f} {row['rank_correlation']:6.3f} "
            f"{row['top']:6.3f}   {row['less_ours']:+.3f} +- {row['two_errors']:.3f}"
        )
    for count in trials:
        cells = {
            name: np.mean(
                [
                    j.rank_correlation
                    for j in found
                    if (j.kernel, j.trials) == (name, count)
                ]
            )
            for name in VIEWS
        }
        print(
            f"rank at {count}: " + ", ".join(f"{n} {v:.3f}" for n, v in cells.items())
        )
    return figures


if __name__ == "__main__":
    main()
