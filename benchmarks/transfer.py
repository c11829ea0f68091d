"""Judge transfer scores by recorded landscapes: do they find the best backbone?

The truth about a backbone is the mean of its best three accuracies on unseen rows,
among its recorded dear Configs (or the best one alone: `--best 1`). A score is right in
a task if the truly best backbone is among its first 1, 2 or 3. With three backbones, as
on texts, the first three are all there are: look at the first one, and at what is lost
by taking it. `weights` says what the adviser's prior weights should be.

Examples:
    python benchmarks/landscape.py transfer  # writes what this reads, after `record`
    python benchmarks/transfer.py
    python benchmarks/transfer.py --quick
    python benchmarks/transfer.py weights
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from landscape import LANDSCAPES
from scipy.stats import spearmanr

from fewshot_automl.oracle.surrogate import standardised
from fewshot_automl.oracle.transfer import COLUMNS, Column, TransferAdviser
from fewshot_automl.outcome import ADVICE_PREFIX, Outcome
from fewshot_automl.space import Choice, Config, Space
from fewshot_automl.trial.workload import is_dear

SCORES = ("logme", "h_score", "knn", "probe", "prior")
COMBINED = "combined"
"""The adviser's columns, added up with the means of their weights."""
LEAST_CONFIGS = 3
"""Dear Configs that a backbone must have to be judged."""
FIRST = (1, 2, 3)
STEPS, LEAST_DEVIATION = 200, 0.2
"""Of expectation maximisation; of weights over tasks, where these are few."""
WANTED = 0.8
"""Share of tasks in which the best backbone should be among the first three."""


@dataclass(frozen=True)
class Recorded:
    """One task: what was tried, and what was said of its backbones before."""

    name: str
    lines: tuple[dict[str, Any], ...]
    """Done Configs, as recorded."""
    said: Mapping[str, Mapping[str, float]]
    """Transfer scores of each backbone, by their names in an Outcome."""

    def dear(self, backbone: str) -> list[dict[str, Any]]:
        """Return the dear Configs of a backbone."""
        return [
            line
            for line in self.lines
            if line["config"].get("backbone") == backbone
            and is_dear(Config.from_json(line["config"]))
        ]

    @property
    def backbones(self) -> list[str]:
        """Return the backbones with enough dear Configs to be judged."""
        return [name for name in self.said if len(self.dear(name)) >= LEAST_CONFIGS]

    def truth(self, best: int) -> np.ndarray:
        """Return for each backbone the mean accuracy of its best Configs, unseen."""
        unseen = [[x["unseen"] for x in self.dear(name)] for name in self.backbones]
        return np.array([np.mean(sorted(row)[-best:]) for row in unseen])

    def advice(self, columns: tuple[Column, ...]) -> np.ndarray:
        """Return what the adviser says of each backbone after its quick trials."""
        space = Space(
            (
                Choice(
                    name="backbone",
                    options=tuple(self.said),
                    descriptors=((0.0,),) * len(self.said),
                ),
            )
        )
        history = [
            (
                Config.of({"backbone": name}),
                Outcome(status="done", mean=0.0, measures=dict(scores)),
            )
            for name, scores in self.said.items()
        ]
        asked = [Config.of({"backbone": name}) for name in self.backbones]
        return TransferAdviser(columns=columns).advise(space, history, asked)


def read(folder: Path) -> list[Recorded]:
    """Return the tasks that have a landscape and transfer scores."""
    found = []
    for file in sorted(folder.glob("*.jsonl")):
        said = file.with_suffix(".transfer.json")
        if not said.exists():
            print(f"{file.stem} has no {said.name}; see `landscape.py transfer`")
            continue
        lines = map(json.loads, file.read_text().splitlines())
        done = tuple(line for line in lines if line["status"] == "done")
        one = Recorded(file.stem, done, json.loads(said.read_text()))
        if len(one.backbones) > 1:
            found.append(one)
    return found


def scores_of(one: Recorded) -> dict[str, np.ndarray]:
    """Return by name what each score says of the backbones that can be judged."""
    alone = {
        name: np.array([one.said[b][f"{ADVICE_PREFIX}{name}"] for b in one.backbones])
        for name in SCORES
    }
    means = [column.mean for column in COLUMNS]
    return {**alone, COMBINED: one.advice(COLUMNS) @ means}


def judged(one: Recorded, score: np.ndarray, best: int) -> dict[str, float]:
    """Return how well a score ranks the backbones of a task.

    Backbones that a score holds equal share their places.
    """
    truth = one.truth(best)
    winner = int(truth.argmax())
    above = float((score > score[winner]).sum())
    level = float((score == score[winner]).sum())
    is_flat = np.ptp(score) == 0 or np.ptp(truth) == 0
    first = score == score.max()
    return {
        "rank_correlation": 0.0 if is_flat else float(spearmanr(score, truth)[0]),
        **{
            f"top{first}": float(np.clip((first - above) / level, 0, 1))
            for first in FIRST
        },
        "lost": float(truth.max() - truth[first].mean()),
    }


def chance(one: Recorded, best: int) -> dict[str, float]:
    """Return what a ranking by lot is worth."""
    count, truth = len(one.backbones), one.truth(best)
    return {
        "rank_correlation": 0.0,
        **{f"top{first}": min(first / count, 1.0) for first in FIRST},
        "lost": float(truth.max() - truth.mean()),
    }


def judge(tasks: list[Recorded], best: int) -> dict[str, dict[str, float]]:
    """Print and return each score's figures, averaged over the tasks."""
    for one in tasks:
        truth = dict(zip(one.backbones, one.truth(best).round(3), strict=True))
        order = sorted(truth, key=lambda name: -truth[name])
        print(f"{one.name:12}", ", ".join(f"{n} {truth[n]:.3f}" for n in order))
        for name, score in scores_of(one).items():
            ranked = [one.backbones[i] for i in np.argsort(-score, kind="stable")]
            print(f"    {name:10}", ", ".join(ranked))
    rows = {
        name: [judged(one, scores_of(one)[name], best) for one in tasks]
        for name in (*SCORES, COMBINED)
    }
    rows["chance"] = [chance(one, best) for one in tasks]
    keys = list(rows["chance"][0])
    print(f"\n{'':10}", *(f"{key:>16}" for key in keys))
    figures = {}
    for name, row in rows.items():
        figures[name] = {
            key: round(float(np.mean([line[key] for line in row])), 4) for key in keys
        }
        print(f"{name:10}", *(f"{figures[name][key]:16.3f}" for key in keys))
    return figures


def weights(tasks: list[Recorded]) -> dict[str, list[float]]:
    """Print and return what the priors of the weights should be, by these tasks.

    Each score alone, then the adviser's columns together.
    """
    alone = [
        (Column(scores=(name,), mean=0.0, deviation=1.0, unit=None),) for name in SCORES
    ]
    found = {}
    for columns in (*alone, COLUMNS):
        mean, deviation, error = learnt([_levels(one, columns) for one in tasks])
        for column, *row in zip(columns, mean, deviation, error, strict=True):
            name = "+".join(column.scores) + ("" if len(columns) == 1 else " together")
            found[name] = [round(float(x), 3) for x in row]
            print(
                "{:36} mean {:5.2f} deviation {:5.2f} error {:5.2f}".format(name, *row)
            )
    return found


def learnt(
    tasks: list[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, deviation over tasks and error of the mean of each weight.

    By expectation maximisation of a normal model: the levels of a task's backbones
    are a weighted sum of its columns and noise, and the weights vary between tasks.

    Args:
        tasks: Columns and levels of each task's backbones, centred over them.
    """
    width = tasks[0][0].shape[1]
    mean, variance, noise = np.zeros(width), np.ones(width), 1.0
    backbones = sum(len(level) - 1 for _, level in tasks)
    for _ in range(STEPS):
        known, centres, misfit = [], [], 0.0
        for told, level in tasks:
            spread = np.linalg.inv(told.T @ told / noise + np.diag(1 / variance))
            centre = spread @ (told.T @ level / noise + mean / variance)
            misfit += float(((level - told @ centre) ** 2).sum())
            misfit += float(np.trace(told @ spread @ told.T))
            known.append(np.diag(spread))
            centres.append(centre)
        mean = np.mean(centres, axis=0)
        squares = np.mean(known, axis=0) + np.var(centres, axis=0)
        variance = np.maximum(squares, LEAST_DEVIATION**2)
        noise = misfit / backbones
    precision = sum(
        np.linalg.inv(np.diag(variance) + noise * np.linalg.pinv(told.T @ told))
        for told, _ in tasks
    )
    return mean, np.sqrt(variance), np.sqrt(np.diag(np.linalg.inv(precision)))


def _levels(
    one: Recorded, columns: tuple[Column, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return columns and mean score of the backbones, on the surrogate's scale."""
    means = np.array([line["mean"] for line in one.lines])
    errors = np.array([line["standard_error"] for line in one.lines])
    scale = standardised(means, errors)
    level = [
        np.mean([(x["mean"] - scale.centre) / scale.unit for x in one.dear(name)])
        for name in one.backbones
    ]
    said = one.advice(columns)
    return said - said.mean(axis=0), np.array(level) - np.mean(level)


def main() -> None:
    """Print how well scores rank backbones, or what their weights should be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "action", nargs="?", choices=("judge", "weights"), default="judge"
    )
    parser.add_argument("--folder", type=Path, default=LANDSCAPES)
    parser.add_argument(
        "--best", type=int, default=3, help="Configs that are the truth"
    )
    parser.add_argument("--quick", action="store_true", help="as it is: seconds")
    given = parser.parse_args()
    tasks = read(given.folder)
    if not tasks:
        raise SystemExit(f"{given.folder} must hold landscapes and transfer scores.")
    if given.action == "weights":
        line = {"benchmark": "transfer weights", "figures": weights(tasks)}
        print(json.dumps({**line, "falls_short": []}))
        return
    figures = judge(tasks, given.best)
    reached = max(figures[name]["top3"] for name in ("prior", COMBINED))
    short = [
        f"{name} has the best backbone among its first 3 in "
        f"{figures[name]['top3']:.0%} of {len(tasks)} tasks, wanted {WANTED:.0%}"
        for name in ("prior", COMBINED)
        if reached < WANTED
    ]
    many = [one.name for one in tasks if len(one.backbones) > max(FIRST)]
    print(f"\nThe first 3 leave somebody out in: {', '.join(many) or 'no task'}")
    figures["tasks"] = {one.name: len(one.backbones) for one in tasks}
    line = {"benchmark": "transfer", "figures": figures, "falls_short": short}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
