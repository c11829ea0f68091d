"""From a history to a model: choose, score, fit to everything, save, report."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from fewshot_automl.adaptation.blend import Blend, Member
from fewshot_automl.adaptation.method import Fitted
from fewshot_automl.automl.choice import blended, partners_of, winner_of
from fewshot_automl.automl.contenders import (
    account,
    contenders,
    delivered_measures,
    foreseen,
)
from fewshot_automl.automl.delivery import deliver, scored
from fewshot_automl.automl.fitting import fitted_winner, is_at_hand, with_partners
from fewshot_automl.automl.limits import Limits, broken, say_limits
from fewshot_automl.automl.listener import Listener
from fewshot_automl.automl.plan import saving_seconds
from fewshot_automl.automl.result import RESULT_FILE, Result
from fewshot_automl.automl.scoring import (
    calibrated_temperature,
    cross_calibrated,
    equal_trials,
    honest_score,
    predictions,
)
from fewshot_automl.data import Columns, Examples
from fewshot_automl.errors import RunError
from fewshot_automl.evaluation.objectives import objective
from fewshot_automl.evaluation.predictions import Predictions, save_predictions
from fewshot_automl.oracle.advice import Adviser
from fewshot_automl.oracle.goals import Goal
from fewshot_automl.oracle.winner import smoothed_scores
from fewshot_automl.outcome import History, Outcome
from fewshot_automl.predictor import Predictor
from fewshot_automl.report import write_report
from fewshot_automl.space import Config, Space
from fewshot_automl.study import Budget, StudyEnd
from fewshot_automl.trial.forecast import Forecast
from fewshot_automl.trial.workbench import Workbench
from fewshot_automl.trial.workload import is_dear

LATE_SHARE: Final = 0.05
"""Of the budget, that the final fit may go past its end before a cheap one is
taken; as much again is left for saving."""
MODEL_PREDICTIONS: Final = "predictions/model.safetensors"
"""Out-of-fold predictions of the model, relative to the study's folder."""


def finish(
    *,
    end: StudyEnd,
    workbench: Workbench,
    space: Space,
    forecast: Forecast,
    columns: Columns,
    test: Examples | None,
    origins: tuple[str, ...],
    folder: Path,
    listener: Listener,
    budget: Budget,
    most_members: int,
    goals: Sequence[Goal],
    limits: Limits,
    advisers: tuple[Adviser, ...],
    facts: dict[str, Any],
) -> Result:
    """Turn a study's history into a saved, scored, reported model.

    The model keeps all limits if some trial does. If none does, it is the one that
    comes closest, and marked.

    Raises:
        RunError: If no trial was done, or none on a backbone that is still at hand.
    """
    history = end.history
    problem, seed = workbench.problem, workbench.seed
    labels, metric = problem.labels, problem.task.metric
    smoothed = _eligible(
        workbench, history, smoothed_scores(space, history, seed, advisers), listener
    )
    allowed, is_held = contenders(space, history, smoothed, limits, seed, listener)
    best = winner_of(history, allowed)
    listener.say(f"Fitting the winner to all {len(labels)} labelled examples.")
    prices = forecast.after(history)
    needed = most_members * prices.refit_seconds(history[best][0])
    saving = saving_seconds(prices, budget.seconds or math.inf)
    limit = _limit(budget, saving + 2 * needed)
    late = LATE_SHARE * (budget.seconds or 0.0)
    deadline = None if limit is None else limit + late
    binding = limits if is_held else ()
    order = sorted(allowed, key=lambda i: (-allowed[i], -history[i][1].mean, i))
    winner, fitted = fitted_winner(
        workbench, history, order, deadline, listener, binding
    )
    equal = equal_trials(history, winner, labels, metric, folder, seed)
    equal = [i for i in equal if not limits or i in allowed or i == winner]
    usable = [i for i in equal if i in smoothed]
    wanted = partners_of(
        winner,
        usable,
        history,
        labels,
        folder,
        most=most_members - 1,
        holds=lambda places: (
            not limits or not broken(limits, foreseen(places, history, labels, folder))
        ),
    )
    tested = 0 if test is None else len(test)
    parts = with_partners(
        {winner: fitted},
        [partner for partner in wanted if partner != best],  # it could not be fitted
        history,
        workbench,
        seconds=lambda place: (
            prices.refit_seconds(history[place][0]),
            prices.scoring_seconds(history[place][0], tested),
        ),
        promised=saving + prices.scoring_seconds(history[winner][0], tested),
        deadline=limit,
        listener=listener,
        limits=limits,
    )
    model, proba = _assembled(workbench, history, parts, folder)
    temperature = calibrated_temperature(labels, proba)
    assigned = problem.folds.assignment[: len(proba)]
    honest = cross_calibrated(labels, proba, assigned)
    score = honest_score(history, allowed, honest, labels, metric, folder, seed)
    config = history[winner][0]
    known = {
        **facts,
        **_license(workbench, [history[i][0] for i in parts]),
        "score": score.to_json(),
        "members": [
            {"number": number, "config": history[number][0].to_json()}
            for number in parts
        ],
        "seed": seed,
        "temperature": temperature,
    }
    fresh = Predictor(
        task=problem.task,
        config=config,
        fitted=model,
        columns=columns,
        temperature=temperature,
        facts=known,
    )
    predictor = deliver(fresh, folder / "model", workbench)
    sizes = foreseen(list(parts), history, labels, folder)
    measures = delivered_measures(predictor, sizes, limits, workbench, proba)
    say_limits(limits, measures, listener)
    summary = {
        **known,
        "versions": dict(predictor.versions),
        "task": problem.task.to_json(),
        "winner": {"number": winner, "config": config.to_json()},
        "predictions": MODEL_PREDICTIONS,
        "indistinguishable": equal,
        **account(space, history, smoothed, goals, limits, measures, metric, seed),
        "baselines": _baselines(history, metric),
        "labels": labels.tolist(),
        "origins": list(origins),
        "folds": [len(problem.folds.first), len(problem.folds.repeats)],
        "trials": _counts(history),
        "ending": end.ending,
        "test": None if test is None else scored(fresh, test, workbench),
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


def _eligible(
    workbench: Workbench,
    history: History,
    smoothed: Mapping[int, float],
    listener: Listener,
) -> dict[int, float]:
    """Return the smoothed scores of the trials that can become the model.

    Raises:
        RunError: If none can.
    """
    if not smoothed:
        raise RunError(_why_nothing(history))
    kept = {i: smoothed[i] for i in smoothed if is_at_hand(workbench, history[i][0])}
    best = winner_of(history, smoothed)
    if not kept:
        raise RunError(
            "A finished trial must use a backbone that is at hand to become the model, "
            f"got none; the best was {history[best][0]}. Fetch its backbone with: "
            "fewshot zoo get, or give a larger budget."
        )
    if best not in kept:
        listener.say(
            f"The best trial ({history[best][0]}) used a backbone that is not at hand "
            "any more; the best of the others takes its place."
        )
    return kept


def _assembled(
    workbench: Workbench, history: History, parts: dict[int, Fitted], folder: Path
) -> tuple[Fitted, np.ndarray]:
    """Return the model of one or several fitted trials, and its predictions.

    The out-of-fold predictions are kept beside those of the trials.
    """
    labels, folds = workbench.problem.labels, workbench.problem.folds
    probas = [predictions(folder, history[i][1]) for i in parts]
    model = next(iter(parts.values()))
    proba = probas[0]
    if len(parts) > 1:
        proba = blended(labels, probas)
        model = Blend(
            members=tuple(
                Member(
                    fitted=fitted,
                    temperature=calibrated_temperature(labels, own),
                    encoder=workbench.encodings(history[i][0]).encoder,
                )
                for (i, fitted), own in zip(parts.items(), probas, strict=True)
            )
        )
    save_predictions(
        folder / MODEL_PREDICTIONS,
        Predictions(proba=proba, folds=folds.assignment[: len(proba)]),
    )
    return model, proba


def _license(workbench: Workbench, configs: Sequence[Config]) -> dict[str, str]:
    """Return the licences of the weights a model rests on; nothing without any."""
    names = [config.text("backbone") for config in configs if "backbone" in config]
    found = dict.fromkeys(workbench.card(name).license for name in names)
    return {"license": ", ".join(found)} if found else {}


def _limit(budget: Budget, needed: float) -> float | None:
    """Return when the model should be ready, on the clock of `time.monotonic`.

    A study that is resumed when its time is spent still gets the seconds that its
    model needs: whoever resumes it wants the model.
    """
    if budget.end is None or budget.used_before == 0:
        return budget.end
    return max(budget.end, time.monotonic() + needed)


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


def _why_nothing(history: History) -> str:
    reasons = {outcome.reason for _, outcome in history if outcome.reason}
    listed = " ".join(sorted(reasons)[:5]) or "The budget ended before the first trial."
    return f"No trial could be finished. {listed} Give a larger budget."
