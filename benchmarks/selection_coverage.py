"""Measure how often the interval of a chosen model holds its test accuracy.

Draws a few labelled examples from scikit-learn's digits, cross-validates nine plain
models on them, picks the best, trains it on all examples and scores it on the digits
that were not drawn. Prints one JSON object a task, and writes them with `--out`.
`evaluation.intervals.VARIANCE_INFLATION` comes from this experiment. The last line
is one JSON object: ``{"benchmark", "figures", "falls_short"}``.

Examples:
    python benchmarks/selection_coverage.py --quick
    python benchmarks/selection_coverage.py --out /tmp/coverage.jsonl
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from fewshot_automl.evaluation.folds import choose_folds
from fewshot_automl.evaluation.intervals import correct_for_selection
from fewshot_automl.evaluation.resampling import bootstrap_weights, scorer
from fewshot_automl.tasks import metric_named

TASKS = {
    "digits": lambda digits: digits,
    "odd": lambda digits: digits % 2,
    "over_four": lambda digits: digits // 5,
    "thirds": lambda digits: digits % 3,
}
WANTED = 0.95
"""Share of intervals that should hold the test accuracy, over all tasks."""
MOST_BIAS = 0.015
"""Greatest mean error of the score that is told first, over all tasks."""
MODELS: Sequence[Any] = [
    *(LogisticRegression(C=strength, max_iter=100) for strength in (0.01, 0.1, 10)),
    *(KNeighborsClassifier(neighbours) for neighbours in (1, 3)),
    LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
    GaussianNB(var_smoothing=1e-2),
    ExtraTreesClassifier(20, random_state=0),
    DecisionTreeClassifier(random_state=0),
]


def study(task: str, shots: int, seed: int) -> dict[str, float]:
    """Return what was told of the pick of one study, less its true accuracy."""
    digits, kind = load_digits(return_X_y=True)
    digits, labels = digits / 16, TASKS[task](kind).astype(np.int64)
    rng = np.random.default_rng(seed)
    drawn = np.concatenate(
        [rng.permutation(np.flatnonzero(labels == c))[:shots] for c in set(labels)]
    )
    rest = np.setdiff1d(np.arange(len(labels)), drawn)
    x, y = digits[drawn], labels[drawn]
    folds = choose_folds(y, seed=seed)
    probas = []
    for model in MODELS:
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
    pick = clone(MODELS[best]).fit(x, y)
    true = float(pick.score(digits[rest], labels[rest]))
    return {
        "covered": float(found.low <= true <= found.high),
        "width": found.high - found.low,
        "raw_bias": found.raw_score - true,
        "corrected_bias": found.score - true,
        "expected_bias": found.expected - true,
        "test_accuracy": true,
    }


def main() -> None:
    """Run every task and print a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few draws, one size")
    parser.add_argument("--out", type=Path, help="JSON Lines file to append to")
    options = parser.parse_args()
    draws, sizes = (5, (8,)) if options.quick else (60, (4, 8, 32))
    figures = {}
    for task in TASKS:
        for shots in sizes:
            runs = [study(task, shots, seed) for seed in range(draws)]
            means = {
                key: round(float(np.mean([run[key] for run in runs])), 3)
                for key in runs[0]
            }
            line = json.dumps({"task": task, "shots": shots, "draws": draws, **means})
            print(line, flush=True)
            figures[f"{task}, {shots} a class"] = means
            if options.out is not None:
                with options.out.open("a") as file:
                    file.write(line + "\n")
    held = float(np.mean([means["covered"] for means in figures.values()]))
    bias = float(np.mean([means["expected_bias"] for means in figures.values()]))
    checks = {
        f"intervals that held: {held:.1%}, wanted {WANTED:.0%}": held < WANTED,
        f"mean error of the best guess: {bias:+.3f}, wanted {MOST_BIAS} at most": (
            abs(bias) > MOST_BIAS
        ),
    }
    report = {
        "benchmark": "selection_coverage",
        "figures": figures,
        "falls_short": [words for words, is_short in checks.items() if is_short],
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
