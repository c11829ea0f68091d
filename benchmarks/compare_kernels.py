"""Compare kernels of the surrogate on recorded trials.

For each recorded task the cheap trials and some random training ones are shown to a
Gaussian process, which then predicts the scores of all other training ones of the task.
All are fitted by BoTorch, noise included, and without advice:

- conditional: ours; groups of dimensions multiply, inactive ones do not count
- flat: inactive numbers at the middle of their range, one distance for all
- heterogeneous: the kernel of BoTorch's `HeterogeneousMTGP`, a sum over the groups that
  both Configs have (the model itself predicts one of its tasks alone, so that it cannot
  rank Configs of several methods)
- stock: BoTorch's default kernel on the same columns, options as numbers
- names: conditional, backbones as names only

Examples:
    python benchmarks/compare_kernels.py --quick
    python benchmarks/compare_kernels.py --seeds 5 --trials 10 20 40
"""

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from landscape import LANDSCAPES
from machine import ROOT, stamp
from parts.replay_landscape import Landscape
from parts.replay_rows import without_descriptors
from scipy.stats import norm, spearmanr

from fewshot_automl.oracle.encoding import Encoding, Layout
from fewshot_automl.oracle.scores import Scale, calm, winsorised

RESULTS = ROOT / "benchmarks" / "results" / "kernels.jsonl"
STEPS = 60


def conditional(layout: Layout, rows: np.ndarray) -> tuple[np.ndarray, Any]:
    """Return our kernel and the rows it wants."""
    from fewshot_automl.oracle.kernel import ConditionalKernel

    return rows, ConditionalKernel(layout)


def flat(layout: Layout, rows: np.ndarray) -> tuple[np.ndarray, Any]:
    """Return our kernel as if every dimension always counted."""
    from fewshot_automl.oracle.kernel import ConditionalKernel

    numbers, options = len(layout.continuous), len(layout.categorical)
    one = Layout(
        continuous=(0,) * numbers,
        categorical=(0,) * options,
        options=layout.options,
        groups=1,
    )
    return rows[:, : numbers + options], ConditionalKernel(one)


def heterogeneous(layout: Layout, rows: np.ndarray) -> tuple[np.ndarray, Any]:
    """Return BoTorch's kernel of search spaces that share some dimensions."""
    from botorch.models.kernels.heterogeneous_multitask import (
        MultiTaskConditionalKernel,
    )

    table = np.hstack(layout.separated(rows))
    flags = np.hstack(
        [np.ones((len(rows), 1)), rows[:, layout.width - layout.groups + 1 :]]
    )
    groups = [
        *layout.continuous,
        *np.repeat(layout.categorical, layout.options).tolist(),
    ]
    patterns, tasks = np.unique(flags, axis=0, return_inverse=True)
    active = [
        [column for column, group in enumerate(groups) if pattern[group]]
        for pattern in patterns
    ]
    kernel = MultiTaskConditionalKernel(active, use_saas_prior=False)
    return np.hstack([table, tasks.reshape(-1, 1).astype(float)]), kernel


def stock(layout: Layout, rows: np.ndarray) -> tuple[np.ndarray, Any]:
    """Return what BoTorch takes if nothing is said."""
    columns = len(layout.continuous) + len(layout.categorical)
    return rows[:, :columns], None


KERNELS: dict[str, Callable[[Layout, np.ndarray], tuple[np.ndarray, Any]]] = {
    "conditional": conditional,
    "flat": flat,
    "heterogeneous": heterogeneous,
    "stock": stock,
    "names": conditional,
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
    """Of the means with the accuracies on rows that no study sees."""


def judged(name: str, landscape: Landscape, trials: int, seed: int) -> Judged:
    """Tell a kernel some trials and let it predict the others."""
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from gpytorch.mlls import ExactMarginalLogLikelihood

    order = np.random.default_rng([seed, trials]).permutation(len(landscape.training))
    training = [landscape.training[i] for i in order]
    shown = [t for t in (*landscape.cheap, *training[:trials]) if t.outcome.is_done]
    left = [t for t in training[trials:] if t.outcome.is_done]
    space = landscape.space
    encoding = Encoding(without_descriptors(space) if name == "names" else space)
    rows, kernel = KERNELS[name](
        encoding.layout, encoding.encode([t.config for t in (*shown, *left)])
    )
    scores = np.array([t.outcome.mean for t in (*shown, *left)])
    count = len(shown)
    scale = Scale.of(scores[:count], is_cost=False)
    table = torch.from_numpy(rows)
    model = SingleTaskGP(
        table[:count],
        torch.from_numpy(winsorised(scale(scores[:count])))[:, None],
        covar_module=kernel,
        outcome_transform=None,
    )
    fit_gpytorch_mll(
        ExactMarginalLogLikelihood(model.likelihood, model),
        optimizer_kwargs={"options": {"maxiter": STEPS, "ftol": 1e-6}},
    )
    with torch.no_grad():
        posterior = model.posterior(table[count:], observation_noise=True)
    means = posterior.mean[:, 0].numpy()
    deviations = np.sqrt(posterior.variance[:, 0].numpy())
    density = norm.logpdf(scale(scores[count:]), means, deviations)
    unseen = [t.unseen for t in left]
    return Judged(
        name,
        landscape.name,
        trials,
        seed,
        float(density.mean()),
        float(spearmanr(means, unseen).statistic),
    )


def table(found: list[Judged]) -> dict[str, dict[str, float]]:
    """Print and return the means, and differences to ours with standard errors."""
    print(
        f"{'kernel':14} {'log density':>12} {'rank':>6}   less ours (+- 2 se): density"
    )
    ours = {(j.task, j.trials, j.seed): j for j in found if j.kernel == "conditional"}
    figures = {}
    for name in KERNELS:
        mine = [j for j in found if j.kernel == name]
        gaps = np.array(
            [j.log_density - ours[j.task, j.trials, j.seed].log_density for j in mine]
        )
        ranks = np.array(
            [
                j.rank_correlation - ours[j.task, j.trials, j.seed].rank_correlation
                for j in mine
            ]
        )
        errors = [2 * float(x.std()) / math.sqrt(max(len(x), 1)) for x in (gaps, ranks)]
        row = {
            "log_density": round(float(np.mean([j.log_density for j in mine])), 4),
            "rank": round(float(np.mean([j.rank_correlation for j in mine])), 4),
            "density_less_ours": round(float(gaps.mean()), 4),
            "density_two_errors": round(errors[0], 4),
            "rank_less_ours": round(float(ranks.mean()), 4),
            "rank_two_errors": round(errors[1], 4),
        }
        figures[name] = row
        print(
            f"{name:14} {row['log_density']:12.3f} {row['rank']:6.3f}   "
            f"{row['density_less_ours']:+.3f} +- {row['density_two_errors']:.3f}, rank "
            f"{row['rank_less_ours']:+.3f} +- {row['rank_two_errors']:.3f}"
        )
    return figures


def main() -> None:
    """Compare the kernels and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=LANDSCAPES)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 20, 40])
    parser.add_argument("--quick", action="store_true", help="3 tasks, 1 seed")
    given = parser.parse_args()
    files = sorted(given.folder.glob("*.jsonl"))[: 3 if given.quick else None]
    seeds = 1 if given.quick else given.seeds
    found: list[Judged] = []
    for landscape in map(Landscape.load, files):
        for trials in given.trials:
            if trials + 10 <= len(landscape.training):
                for seed in range(seeds):
                    with calm(seed):
                        found += [judged(n, landscape, trials, seed) for n in KERNELS]
        print(f"{landscape.name} done", flush=True)
    figures = table(found)
    if not given.quick:
        with RESULTS.open("a") as file:
            file.write(json.dumps({**stamp(), "figures": figures}) + "\n")
    best = max(figures, key=lambda name: figures[name]["log_density"])
    short = [] if best == "conditional" else [f"{best} predicts better than ours"]
    print(
        json.dumps({"benchmark": "kernels", "figures": figures, "falls_short": short})
    )


if __name__ == "__main__":
    main()
