"""From a history to a model: choose, score, fit to everything, save, report."""

import json
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from fewshot_automl.adaptation.method import Fitted
from fewshot_automl.automl.listener import Listener
from fewshot_automl.automl.result import RESULT_FILE, Result
from fewshot_automl.automl.scoring import (
    History,
    calibrated_temperature,
    honest_score,
    predictions,
)
from fewshot_automl.data import Columns, Examples
from fewshot_automl.errors import OutOfTime, RunError, TrialError
from fewshot_automl.evaluation.objectives import objective
from fewshot_automl.oracle.winner import smoothed_scores
from fewshot_automl.outcome import Outcome
from fewshot_automl.predictor import Predictor
from fewshot_automl.report import write_report
from fewshot_automl.space import Config, Space
from fewshot_automl.study import Budget, StudyEnd
from fewshot_automl.trial.design import is_dear
from fewshot_automl.trial.evaluate import refit
from fewshot_automl.trial.workbench import Workbench

LATE_SECONDS: Final = 8.0
"""How far past the budget's end the final fit may go before a cheap one is taken."""
TEST_METRICS: Final = ("accuracy", "macro_f1", "log_loss")


def finish(
    *,
    end: StudyEnd,
    workbench: Workbench,
    space: Space,
    columns: Columns,
    test: Examples | None,
    origins: tuple[str, ...],
    folder: Path,
    listener: Listener,
    budget: Budget,
    facts: dict[str, Any],
) -> Result:
    """Turn a study's history into a saved, scored, reported model.

    Raises:
        RunError: If no trial was done.
    """
    history = end.history
    seed = workbench.seed
    smoothed = smoothed_scores(space, history, seed)
    if not smoothed:
        raise RunError(_why_nothing(history))
    winner = max(smoothed, key=lambda i: (smoothed[i], history[i][1].mean, -i))
    problem = workbench.problem
    metric = problem.task.metric
    listener.say(f"Fitting the winner to all {len(problem.labels)} labelled examples.")
    winner, fitted = _fitted(workbench, history, winner, budget, listener)
    config, outcome = history[winner]
    score, equal = honest_score(
        history, smoothed, winner, problem.labels, metric, folder, seed
    )
    temperature = calibrated_temperature(problem.labels, predictions(folder, outcome))
    Predictor(
        task=problem.task,
        config=config,
        fitted=fitted,
        columns=columns,
        temperature=temperature,
        facts={**facts, **_license(workbench, config), "score": score.to_json()},
    ).save(folder / "model")
    predictor = Predictor.load(folder / "model")
    summary = {
        **facts,
        **_license(workbench, config),
        "temperature": temperature,
        "versions": dict(predictor.versions),
        "task": problem.task.to_json(),
        "score": score.to_json(),
        "winner": {"number": winner, "config": config.to_json()},
        "indistinguishable": equal,
        "baselines": _baselines(history, metric),
        "labels": problem.labels.tolist(),
        "origins": list(origins),
        "seed": seed,
        "folds": [len(problem.folds.first), len(problem.folds.repeats)],
        "trials": _counts(history),
        "ending": end.ending,
        "test": None if test is None else _test_scores(predictor, test),
        "seconds": round(budget.used(time.monotonic()), 1),
        "budget_seconds": budget.seconds,
    }
    (folder / RESULT_FILE).write_text(json.dumps(summary, indent=2), "utf-8")
    write_report(folder, summary, list(history))
    return Result(
        folder=folder,
        task=problem.task,
        score=score,
        config=config,
        history=history,
        predictor=predictor,
        summary=summary,
    )


def _license(workbench: Workbench, config: Config) -> dict[str, str]:
    """Return the licence of the weights a model rests on; nothing without any."""
    if "backbone" not in config:
        return {}
    return {"license": workbench.card(config.text("backbone")).license}


def _fitted(
    workbench: Workbench,
    history: History,
    winner: int,
    budget: Budget,
    listener: Listener,
) -> tuple[int, Fitted]:
    """Fit the winner; if that fails or takes too long, the best cheap Config."""
    deadline = None if budget.end is None else budget.end + LATE_SECONDS
    try:
        return winner, refit(workbench, history[winner][0], deadline)
    except (OutOfTime, TrialError) as error:
        cheap = [
            i
            for i, (config, outcome) in enumerate(history)
            if outcome.is_done and not is_dear(config) and i != winner
        ]
        if not cheap:
            raise
        best = max(cheap, key=lambda i: history[i][1].mean)
        listener.say(
            f"The winner could not be fitted to all examples ({error}); the best "
            f"quick model takes its place: {history[best][0]}"
        )
        return best, refit(workbench, history[best][0])


def _baselines(history: History, metric: str) -> list[dict[str, Any]]:
    """Return the best trial of each cheap method, in the metric's own direction."""
    best: dict[str, tuple[Config, Outcome]] = {}
    for config, outcome in history:
        if outcome.is_done and not is_dear(config):
            name = config.text("method")
            if name not in best or outcome.mean > best[name][1].mean:
                best[name] = (config, outcome)
    return [
        {
            "method": name,
            "config": config.to_json(),
            "score": objective(metric).orient(outcome.mean),
            "standard_error": outcome.standard_error,
        }
        for name, (config, outcome) in best.items()
    ]


def _counts(history: History) -> dict[str, int]:
    statuses = [outcome.status for _, outcome in history]
    return {name: statuses.count(name) for name in ("done", "failed", "stopped")}


def _test_scores(predictor: Predictor, test: Examples) -> dict[str, float]:
    return score_predictions(
        test.labelled().labels, predictor.predict_proba_of(test.labelled().inputs)
    )


def score_predictions(labels: np.ndarray, proba: np.ndarray) -> dict[str, float]:
    """Return accuracy, macro-F1, log loss and n."""
    values = {name: objective(name).function(labels, proba) for name in TEST_METRICS}
    return {**values, "n": float(len(labels))}


def _why_nothing(history: History) -> str:
    reasons = {outcome.reason for _, outcome in history if outcome.reason}
    listed = " ".join(sorted(reasons)[:5]) or "The budget ended before the first trial."
    return f"No trial could be finished. {listed} Give a larger budget."
