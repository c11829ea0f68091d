"""Measure whether what a study promises of its model is so, on large test parts.

Three kinds of studies, each on a few labelled examples drawn anew:

- ours: cheap Configs (TF-IDF, prototypes, probes on frozen features) on real sets;
  a committee of them is chosen, scored and fitted to all as `fewshot fit` does.
- plain: nine models of scikit-learn on its digits; the best is picked.
- recorded: the best of a part of a landscape (`landscapes/`), beside what the same
  models scored on rows that no study saw. Landscapes keep scores and no outputs, so
  these tell only how good the best of many looks.

Printed by kind and examples a class: the share of 95 % intervals that hold the test
score, the mean error of the best of many, of the corrected score (that of models
trained on as many examples as in a fold) and of the score that is told first
(`expected`), the expected calibration error of the model's outputs before and after
calibration, and how often conformal sets hold the true class.

Examples:
    python benchmarks/honesty.py --quick
    python benchmarks/honesty.py --out benchmarks/results/honesty.jsonl
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from landscape import LANDSCAPES, card_of, embedded, rows_of, task_of
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from fewshot_automl.adaptation.method import Profile
from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.automl.scoring import (
    Tried,
    calibration_of,
    committee,
    cross_calibrated,
    honest_score,
)
from fewshot_automl.bench.suite import draw
from fewshot_automl.evaluation.conformal import class_sets, fit_sets
from fewshot_automl.evaluation.folds import choose_folds
from fewshot_automl.evaluation.intervals import correct_for_selection
from fewshot_automl.evaluation.resampling import bootstrap_weights, scorer
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.modalities import content_hashes
from fewshot_automl.oracle.candidates import sobol_configs
from fewshot_automl.outcome import REFINEMENT, History
from fewshot_automl.policy.defaults import on_best_backbone, rung_zero
from fewshot_automl.policy.plan import MOST_MEMBERS
from fewshot_automl.space import Config
from fewshot_automl.tasks import metric_named
from fewshot_automl.tasks.calibration import expected_calibration_error
from fewshot_automl.training.placement import choose_placement
from fewshot_automl.trial import Problem, TrialContext, evaluate, refit, space_for

SETS = ("clickbait", "subj", "trec6", "tweet_irony", "sign_digits", "cifar10_mini")
BACKBONES = ("minilm-l6", "mobilenetv2-100", "efficientnet-lite0")
"""Of those sets' modalities: small ones, for features are computed of all rows."""
SHOTS = {"text": (8, 32), "image": (4, 16)}
"""Examples a class."""
DRAWN = 2
"""Configs of a Sobol sequence beside those that every study begins with."""
SEED = 1000
"""Of the first draw; `VARIANCE_INFLATION` and the prior of the temperature were chosen
on draws of seeds 0 to 59."""
ALPHAS = (0.2, 0.1)
COVERAGE, MOST_BIAS, MOST_OFF = (0.93, 0.99), 0.01, 0.02
"""What is wanted: of intervals, of the told score, of conformal sets."""
DIGITS = {
    "digits": lambda digits: digits,
    "odd": lambda digits: digits % 2,
    "over_four": lambda digits: digits // 5,
    "thirds": lambda digits: digits % 3,
}
PLAIN: Sequence[Any] = [
    *(LogisticRegression(C=strength, max_iter=100) for strength in (0.01, 0.1, 10)),
    *(KNeighborsClassifier(neighbours) for neighbours in (1, 3)),
    LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
    GaussianNB(var_smoothing=1e-2),
    ExtraTreesClassifier(20, random_state=0),
    DecisionTreeClassifier(random_state=0),
]
PART = 40
"""Trials of a landscape among which a recorded study picks."""


@dataclass(frozen=True)
class Scene:
    """A dataset whose rows are read, and a context that holds its backbones."""

    pool: pd.DataFrame
    test: tuple[Any, ...]
    truth: np.ndarray
    test_keys: tuple[str, ...]
    names: list[str]
    context: TrialContext


@dataclass(frozen=True)
class Studied:
    """What one study says, and what its model says of the test part."""

    tried: Tried
    pool: list[int]
    members: dict[int, float]
    tests: dict[int, np.ndarray]
    """Outputs of each member, not calibrated."""


@cache
def scene(name: str) -> Scene:
    """Return a dataset."""
    card = card_of(name)
    pool, test = card.rows("train"), card.rows("test")
    names = sorted(set(pool["label"]))
    test = test[test["label"].isin(names)]
    context = TrialContext(
        problem=Problem(
            task=task_of(name, names),
            inputs=(),
            targets=np.zeros(0, dtype=np.int64),
            folds=choose_folds(np.array([0, 0, 1, 1]), seed=0),
        ),
        cards=tuple(c for c in embedded(card.modality) if c.id in BACKBONES),
        store=FeatureStore(None),
        placement=choose_placement("cpu"),
    )
    inputs = tuple(test["input"])
    return Scene(
        pool=pool,
        test=inputs,
        truth=np.array([names.index(label) for label in test["label"]]),
        test_keys=content_hashes(inputs),
        names=names,
        context=context,
    )


def study(
    name: str,
    drawn: pd.DataFrame,
    seed: int,
    configs: Sequence[Config] | None = None,
) -> Studied:
    """Try Configs on drawn examples, choose a committee and predict the test part."""
    here = scene(name)
    inputs = tuple(drawn["input"])
    labels = np.array([here.names.index(label) for label in drawn["label"]])
    keys = content_hashes(inputs)
    problem = Problem(
        task=here.context.problem.task,
        inputs=inputs,
        targets=labels,
        folds=choose_folds(labels, groups=keys, seed=seed),
        keys=keys,
    )
    context = replace(here.context, problem=problem, seed=seed)
    if configs is None:
        configs = cheap_configs(context, np.bincount(labels).tolist())
    history: History = [(config, evaluate(context, config)) for config in configs]
    outputs = {i: outcome.outputs for i, (_, outcome) in enumerate(history)}
    tried = Tried(problem=problem, history=history, outputs=outputs)
    order = sorted(outputs, key=lambda i: -tried.outcome(i).mean)
    pool = [i for i in order if tried.method(i).learns]
    members = committee(tried, pool, MOST_MEMBERS)
    tests = {}
    for number in {*members, pool[0]}:
        config = tried.config(number)
        unseen = context.encodings(config).of(here.test)
        unseen = replace(unseen, keys=here.test_keys)
        tests[number] = refit(context, config).outputs(unseen).astype(np.float64)
    return Studied(tried=tried, pool=pool, members=members, tests=tests)


def cheap_configs(context: TrialContext, counts: Sequence[int]) -> list[Config]:
    """Return the Configs that a study begins with, and some of a Sobol sequence."""
    profile = Profile(task=context.problem.task, strata=tuple(counts))
    space, rows = space_for(profile, context.cards), METHODS.values()
    names = [card.id for card in context.cards]
    found = rung_zero(space, rows, names) + on_best_backbone(space, rows, names[0])
    cheap = space.narrow("method", ["prototype", "probe"])
    drawn = sobol_configs(cheap, [context.seed, 4], 64)
    return [*dict.fromkeys([*found, *drawn])][: len(found) + DRAWN]


def ours(name: str, shots: int, seed: int) -> dict[str, float]:
    """Return what one of our studies promised, beside what its model did."""
    here = scene(name)
    one = study(name, draw(here.pool, shots, seed), seed)
    tried, problem = one.tried, one.tried.problem
    rules, truth = problem.task.rules, here.truth
    outputs = tried.together(one.members)
    honest = cross_calibrated(problem, outputs)
    told = honest_score(tried, one.pool, MOST_MEMBERS, honest, problem.task, seed)
    votes, plain = [], []
    for number, weight in one.members.items():
        raw = one.tests[number]
        own = tried.calibration(number) if len(one.members) > 1 else {}
        votes.append(weight * rules.calibrate(raw, own))
        plain.append(weight * raw)
    before = sum(plain)
    after = rules.calibrate(sum(votes), calibration_of(problem, outputs))
    right = float((after.argmax(1) == truth).mean())
    best = one.pool[0]
    alone = float((one.tests[best].argmax(1) == truth).mean())
    sets = fit_sets(problem.targets, honest)
    held = {alpha: class_sets(sets, after, alpha) for alpha in ALPHAS}
    rows = np.arange(len(truth))
    return {
        "covered": float(told.low <= right <= told.high),
        "width": told.high - told.low,
        "best_of_many_bias": tried.outcome(best).mean - alone,
        "raw_bias": told.raw - right,
        "corrected_bias": told.corrected - right,
        "expected_bias": told.expected - right,
        "ece_before": expected_calibration_error(before, truth),
        "ece": expected_calibration_error(after, truth),
        "log_loss_before": log_loss(before, truth),
        "log_loss": log_loss(after, truth),
        **{f"held_{1 - a:.1f}": float(s[rows, truth].mean()) for a, s in held.items()},
        **{f"size_{1 - a:.1f}": float(s.sum(1).mean()) for a, s in held.items()},
        "test_score": right,
    }


def log_loss(proba: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean log loss in nats."""
    own = proba[np.arange(len(truth)), truth]
    return float(-np.log(np.maximum(own, 1e-6)).mean())


def plain(name: str, shots: int, seed: int) -> dict[str, float]:
    """Return what was told of the best of nine plain models, beside its accuracy."""
    digits, kind = load_digits(return_X_y=True)
    digits, labels = digits / 16, DIGITS[name](kind).astype(np.int64)
    rng = np.random.default_rng(seed)
    drawn = np.concatenate(
        [rng.permutation(np.flatnonzero(labels == c))[:shots] for c in set(labels)]
    )
    rest = np.setdiff1d(np.arange(len(labels)), drawn)
    x, y = digits[drawn], labels[drawn]
    folds = choose_folds(y, seed=seed)
    probas = []
    for model in PLAIN:
        proba = np.empty((len(folds.repeats), len(y), labels.max() + 1))
        for fold in folds:
            fitted = clone(model).fit(x[fold.train], y[fold.train])
            proba[fold.repeat, fold.validation] = fitted.predict_proba(
                x[fold.validation]
            )
        probas.append(proba)
    metric = metric_named("accuracy")
    score, weights = scorer(metric, y, probas), bootstrap_weights(len(y), 1000, rng)
    best = int(score(np.ones((1, len(y)))).argmax())
    held_out = score((weights == 0).astype(float))
    picks = held_out[np.arange(len(weights)), score(weights).argmax(axis=1)]
    found = correct_for_selection(
        y,
        probas[best],
        metric,
        held_out[:, best] - picks,
        trained_share=len(folds.first[0].train) / len(y),
        constant=float(np.bincount(y).max() / len(y)),
    )
    true = float(clone(PLAIN[best]).fit(x, y).score(digits[rest], labels[rest]))
    return {
        "covered": float(found.low <= true <= found.high),
        "width": found.high - found.low,
        "best_of_many_bias": found.raw_score - true,
        "corrected_bias": found.score - true,
        "expected_bias": found.expected - true,
        "test_score": true,
    }


def recorded(name: str, seed: int) -> dict[str, float]:
    """Return how good the best of a part of a landscape looked, beside what it is."""
    rows = [r for r in rows_of(LANDSCAPES / f"{name}.jsonl") if r["status"] == "done"]
    part = np.random.default_rng(seed).permutation(len(rows))[:PART]
    some = [rows[at] for at in part]
    best = max(some, key=lambda row: row["mean"])
    refined = min(some, key=lambda row: row[REFINEMENT])
    return {
        "best_of_many_bias": best["mean"] - best["unseen"],
        "best_by_log_loss_bias": refined["mean"] - refined["unseen"],
        "test_score": best["unseen"],
    }


def studies(draws: int, is_quick: bool) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield what each study is, and what runs it; draws of all sets in turn."""
    for number in range(draws):
        seed = SEED + number
        for name in SETS[:4:3] if is_quick else SETS:
            for shots in SHOTS[card_of(name).modality]:
                about = {"kind": "ours", "set": name, "shots": shots, "seed": seed}
                yield about, lambda a=(name, shots, seed): ours(*a)
        for name in DIGITS:
            for shots in (8, 32):
                about = {"kind": "plain", "set": name, "shots": shots, "seed": seed}
                yield about, lambda a=(name, shots, seed): plain(*a)
        for path in sorted(LANDSCAPES.glob("*.jsonl")):
            about = {"kind": "recorded", "set": path.stem, "shots": 0, "seed": seed}
            yield about, lambda a=(path.stem, seed): recorded(*a)


def goals(table: pd.DataFrame) -> dict[str, bool]:
    """Return in words what was wanted, and whether it is missed."""
    means = table.drop(columns=["set", "seed"]).groupby("kind").mean()
    found = {}
    for kind in means.index.intersection(["ours", "plain"]):
        held, bias = means.at[kind, "covered"], means.at[kind, "expected_bias"]
        words = f"{kind}: {held:.1%} of the intervals held"
        found[words] = not COVERAGE[0] <= held <= COVERAGE[1]
        words = f"{kind}: mean error of the told score {bias:+.4f}"
        found[words] = abs(bias) > MOST_BIAS
    for alpha in ALPHAS:
        held = means.at["ours", f"held_{1 - alpha:.1f}"]
        words = f"sets of {1 - alpha:.0%} held the class in {held:.1%}"
        found[words] = abs(held - (1 - alpha)) > MOST_OFF
    before, after = means.at["ours", "ece_before"], means.at["ours", "ece"]
    found[f"calibration error {before:.4f} before, {after:.4f} after"] = after > before
    return found


def main() -> None:
    """Run what is missing, print the table, end with one JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=18, help="of each set and size")
    parser.add_argument("--out", type=Path, help="JSON Lines; what is there is kept")
    parser.add_argument(
        "--quick", action="store_true", help="two sets of ours, 3 draws"
    )
    asked = parser.parse_args()
    if asked.quick:
        asked.draws = 3
    out = asked.out or Path(tempfile.mkdtemp()) / "honesty.jsonl"
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = out.read_text("utf-8").splitlines() if out.exists() else []
    found = list(map(json.loads, lines))
    done = {(one["kind"], one["set"], one["shots"], one["seed"]) for one in found}
    for about, run in studies(asked.draws, asked.quick):
        if tuple(about.values()) in done:
            continue
        start = time.monotonic()
        values = {key: round(value, 5) for key, value in run().items()}
        found.append({**about, **values, "seconds": round(time.monotonic() - start, 2)})
        with out.open("a") as file:
            file.write(json.dumps(found[-1]) + "\n")
    table = pd.DataFrame(found)
    means = table.drop(columns=["seed"]).groupby(["kind", "shots"])
    means = means.mean(numeric_only=True).assign(studies=means.size()).round(4)
    print(means.T.to_string())
    checks = goals(table)
    figures = {
        " ".join(map(str, key)): row.dropna().to_dict() for key, row in means.iterrows()
    }
    figures["all"] = list(checks)
    short = [words for words, is_short in checks.items() if is_short]
    print(
        json.dumps({"benchmark": "honesty", "figures": figures, "falls_short": short})
    )


if __name__ == "__main__":
    main()
