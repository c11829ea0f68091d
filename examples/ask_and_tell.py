"""Searches with our oracle around training code that is your own.

Three kinds of scikit-learn models, each with dimensions of its own, on the digits 0 to
9 with 240 labels; beside it random search with as many trials. Nothing of
fewshot_automl is used but the oracle, and that sees Configs and numbers only.

    python examples/ask_and_tell.py
    python examples/ask_and_tell.py --history trials.json   # and again, to go on
    python examples/ask_and_tell.py --jobs 2
"""

import argparse
import json
import time
import warnings
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from fewshot_automl import Choice, Config, Float, Int, Outcome, Space, When
from fewshot_automl.oracle import GpOracle, Oracle, RandomOracle, posterior_means

SVM, TREES, NETWORK = (When("model", (m,)) for m in ("svm", "trees", "network"))
SPACE = Space(
    (
        Choice(name="model", options=("svm", "trees", "network")),
        Float(name="c", low=1e-3, high=1e3, log=True, when=(SVM,)),
        Float(name="gamma", low=1e-5, high=1.0, log=True, when=(SVM,)),
        Int(name="leaf", low=1, high=20, log=True, when=(TREES,)),
        Float(name="features", low=0.05, high=1.0, when=(TREES,)),
        Int(name="units", low=4, high=128, log=True, when=(NETWORK,)),
        Float(name="rate", low=1e-4, high=1e-1, log=True, when=(NETWORK,)),
    )
)
History = list[tuple[Config, Outcome]]

warnings.simplefilter("ignore", ConvergenceWarning)  # 40 passes are all they get
DIGITS, LABELS = load_digits(return_X_y=True)
TRAIN_X, TEST_X, TRAIN_Y, TEST_Y = train_test_split(
    DIGITS, LABELS, train_size=240, stratify=LABELS, random_state=0
)


def model_of(config: Config) -> BaseEstimator:
    """Return the model that a Config describes."""
    values = config.to_json()
    match values["model"]:
        case "svm":
            model = SVC(C=values["c"], gamma=values["gamma"])
        case "trees":
            leaf, features = values["leaf"], values["features"]
            model = ExtraTreesClassifier(
                30, min_samples_leaf=leaf, max_features=features, random_state=0
            )
        case _:
            rate, layers = values["rate"], (values["units"],)
            model = MLPClassifier(
                layers, learning_rate_init=rate, max_iter=40, random_state=0
            )
    return make_pipeline(StandardScaler(), model)


def evaluate(config: Config) -> Outcome:
    """Cross-validate a Config; this is where your own training goes."""
    began = time.perf_counter()
    folds = StratifiedKFold(4, shuffle=True, random_state=0)
    try:
        scores = cross_val_score(model_of(config), TRAIN_X, TRAIN_Y, cv=folds)
    except ValueError as error:
        return Outcome(status="failed", reason=str(error))
    return Outcome(
        status="done",
        scores=tuple(map(float, scores)),
        mean=float(scores.mean()),
        standard_error=float(scores.std(ddof=1) / np.sqrt(len(scores))),
        cost_seconds=time.perf_counter() - began,
    )


def search(oracle: Oracle, trials: int, jobs: int, path: Path | None = None) -> History:
    """Return a history of `trials` trials, up to `jobs` of them under way at a time.

    With a path the history is kept in a file, and gone on from if that exists.
    """
    rows = json.loads(path.read_text()) if path and path.exists() else []
    history = [(Config.from_json(c), Outcome.from_json(o)) for c, o in rows]
    history = [(c, outcome) for c, outcome in history if outcome.status != "running"]
    under_way: dict[Future[Outcome], int] = {}
    with ProcessPoolExecutor(jobs) as pool:
        while len(history) < trials or under_way:
            free = min(jobs - len(under_way), trials - len(history))
            configs = oracle.suggest(SPACE, history, free, 0) if free > 0 else []
            for config in configs:  # those under way count as pending
                under_way[pool.submit(evaluate, config)] = len(history)
                history.append((config, Outcome(status="running")))
            if not under_way:
                break  # every Config was tried
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                place = under_way.pop(future)
                history[place] = (history[place][0], future.result())
            if path:
                rows = [(c.to_json(), outcome.to_json()) for c, outcome in history]
                path.write_text(json.dumps(rows))
    return history


def show_winner(name: str, history: History) -> None:
    """Print the trial of the best posterior mean: not always the luckiest one."""
    means = posterior_means(SPACE, history, 0)
    if not means:
        raise SystemExit("No trial finished.")
    best = max(means, key=lambda place: means[place])
    config, outcome = history[best]
    unseen = model_of(config).fit(TRAIN_X, TRAIN_Y).score(TEST_X, TEST_Y)
    score = f"{outcome.mean:.3f} ± {outcome.standard_error:.3f}"
    print(f"{name}: trial {best}, {score}, unseen {unseen:.3f}  {config}")


def main() -> None:
    """Search by our oracle and at random, with as many trials."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--history", type=Path, help="keep and go on with trials here")
    arguments = parser.parse_args()
    history = search(GpOracle(), arguments.trials, arguments.jobs, arguments.history)
    for place, (config, outcome) in enumerate(history):
        print(
            f"{place:3d}  {outcome.mean:.3f}  {outcome.cost_seconds:5.2f} s  {config}"
        )
    show_winner("our oracle", history)
    at_random = search(RandomOracle(), arguments.trials, arguments.jobs)
    show_winner("random search", at_random)


if __name__ == "__main__":
    main()
