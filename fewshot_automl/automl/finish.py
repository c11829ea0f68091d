"""From a history to a model: choose, score, fit to everything, save, report."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from fewshot_automl.adaptation.frozen import reads_windows
from fewshot_automl.adaptation.heads import unit_rows
from fewshot_automl.automl.available import broken_in_words
from fewshot_automl.automl.fitting import (
    again,
    as_one,
    deliver,
    earlier_members,
    fitted_committee,
    size_together,
)
from fewshot_automl.automl.record import read_summary
from fewshot_automl.automl.result import RESULT_FILE, Result
from fewshot_automl.automl.scoring import (
    Outputs,
    Tried,
    calibration_of,
    committee,
    cross_calibrated,
    equal_trials,
    honest_score,
)
from fewshot_automl.automl.search import Prepared
from fewshot_automl.automl.settings import Settings
from fewshot_automl.errors import RunError
from fewshot_automl.evaluation.conformal import CONFORMAL, fit_sets
from fewshot_automl.evaluation.intervals import standard_error
from fewshot_automl.evaluation.measures import MEASURES, SCORE
from fewshot_automl.evaluation.resampling import pooled_score, predicted_rows
from fewshot_automl.formats import package_versions
from fewshot_automl.ledger import write_outputs
from fewshot_automl.oracle import Aims, Objective, pareto_front
from fewshot_automl.outcome import History
from fewshot_automl.policy import Ranking, broken, saving_seconds
from fewshot_automl.predictor import Predictor
from fewshot_automl.report.write import write_report
from fewshot_automl.study import StudyEnd
from fewshot_automl.tasks import Metric, Task
from fewshot_automl.tasks.classes import Classes
from fewshot_automl.tasks.costs import place_of
from fewshot_automl.trial import Problem, size_of

LATE_SHARE: Final = 0.05
"""Of the budget, that the final fit may go past its end before a cheap one is
taken; as much again is left for saving."""
FAR: Final = 3.0
"""Standard errors above the raw score at which a posterior mean is not believed."""
NO_LUCK: Final = {
    name: lambda config: math.nan for name, row in MEASURES.items() if row.adds_up
}
"""Measures that are counted, or timed once for all Configs that are alike."""
MODEL_PREDICTIONS: Final = "predictions/model.safetensors"
"""Out-of-fold outputs of the model, calibrated as its own are, relative to the study's
folder."""


def finish(ready: Prepared, end: StudyEnd) -> Result:
    """Turn a study's history into a saved, scored, reported model.

    The model keeps all limits if some trial does. If none does, it is the one that
    comes closest, and marked.

    Raises:
        RunError: If no trial was done, or none on a backbone that is at hand.
    """
    context, budget, limits = ready.context, ready.budget, ready.leader.aims.limits
    timeline = ready.timeline
    problem, history, say = context.problem, end.history, ready.listener.say
    done = {i: config for i, (config, outcome) in enumerate(history) if outcome.is_done}
    outputs_of = {i: ready.ledger.outputs(config) for i, config in done.items()}
    tried = Tried(problem=problem, history=history, outputs=outputs_of)
    ranking = ready.leader(history)
    _check(ready, history, ranking)
    pool = [i for i in ranking.order if tried.method(i).learns]
    if not tried.method(best := ranking.order[0]).learns:
        pool = [best]  # nothing learnt leads a constant answer by enough
    timeline.mark("choosing")
    costs = ready.costs.after(history)
    saving = saving_seconds(costs, budget.seconds or math.inf)
    limit = None if end.ending == "chosen" else budget.end
    if limit is not None and budget.used_before > 0:
        # Whoever resumes a study whose time is spent wants the model.
        fits = ready.members * costs.refit_seconds(tried.config(best))
        limit = max(limit, time.monotonic() + saving + 2 * fits)
    late = LATE_SHARE * (budget.seconds or 0.0)
    end_of_fit = None if limit is None else limit + late
    pool, weights, parts = fitted_committee(
        ready, tried, pool, ready.members, saving, end_of_fit
    )
    winner = next(iter(weights))
    equal = equal_trials(tried, winner, context.seed)
    if limits:
        equal = [i for i in equal if i in ranking.order or i == winner]
    timeline.mark("final fit")
    configs = list(map(tried.config, weights))
    outputs = tried.together(weights)
    honest = cross_calibrated(problem, outputs)
    write_outputs(ready.folder / MODEL_PREDICTIONS, honest.astype(np.float32))
    calibration = calibration_of(problem, outputs)
    task = decided(problem, ready.settings, honest, say)
    luck = ready.carried.luck if ready.carried else 0.0
    score = honest_score(tried, pool, ready.members, honest, task, context.seed, luck)
    if score.caution:
        say(f"warning: {score.caution}")
    timeline.mark("honest score")
    backbones = [config.text("backbone") for config in configs if "backbone" in config]
    licenses = dict.fromkeys(context.card(name).license for name in backbones)
    sizes = {
        i: {"size": size_of(part), "head": size_of(part, with_backbones=False)}
        for i, part in parts.items()
    }
    if not parts:
        earlier = earlier_members(ready.follows or ready.folder)
        sizes = {i: earlier[tried.config(i)] for i in weights}
    known = {
        **ready.facts,
        **({"license": ", ".join(licenses)} if licenses else {}),
        "score": score.to_json(),
        "members": [
            {
                "number": i,
                "weight": weights[i],
                "config": tried.config(i).to_json(),
                **{name: sizes[i][name] for name in ("size", "head")},
            }
            for i in weights
        ],
        "seed": context.seed,
        "calibration": calibration,
    }
    if isinstance(problem.task.rules, Classes):
        known[CONFORMAL] = fit_sets(problem.targets, honest)
    device = context.placement.device
    about: dict[str, Any] = {
        "task": task,
        "config": tried.config(winner),
        "columns": ready.columns,
        "calibration": calibration,
        "facts": known,
    }
    predictor = None
    if parts:
        fresh = Predictor(fitted=as_one(parts, weights, tried, device), **about)
        predictor = deliver(fresh, ready.folder / "model", problem.inputs, device)
    else:
        again(ready, tried, weights, **about)
    timeline.mark("saving")
    measures = {**tried.measures(weights), **size_together(tried, sizes)}
    if ranking.holds and (words := broken_in_words(limits, measures)):
        say(f"warning: The model breaks a limit: {words}.")
    test = None
    if ready.test is not None:
        predictor = predictor or Predictor.load(ready.folder)
        test = predictor.scores_on(ready.test, say)
    timeline.mark("test data")
    statuses = [outcome.status for _, outcome in history]
    error = tried.outcome(winner).standard_error
    if len(weights) > 1:
        metric = problem.task.measured
        error = standard_error(metric, problem.targets, honest, seed=context.seed)
    summary = {
        **known,
        "versions": package_versions(),
        "columns": ready.columns.to_json(),
        "task": task.to_json(),
        "winner": {"number": winner, "config": tried.config(winner).to_json()},
        "predictions": MODEL_PREDICTIONS,
        "beside_best": _beside_best(tried, weights, honest),
        "standard_error": error,
        "answered": answered_scores(task, problem.targets, honest),
        "typical": _typical(ready, tried, list(weights), is_fitted=bool(parts)),
        "indistinguishable": equal,
        **_account(ready, history, ranking, measures),
        "baselines": _baselines(tried),
        "labels": problem.targets.tolist(),
        "origins": list(ready.origins),
        "keys": list(problem.keys),
        "folds": [len(problem.folds.first), len(problem.folds.repeats)],
        "trials": {s: statuses.count(s) for s in ("done", "failed", "stopped")},
        "ending": end.ending,
        "test": test,
        "budget_seconds": budget.seconds,
    }
    _write(ready, summary)
    write_report(ready.folder, summary, list(history), problem.inputs)
    timeline.mark("report")
    _write(ready, summary)  # which the report could not know
    return Result(
        folder=ready.folder,
        task=problem.task,
        score=score,
        config=tried.config(winner),
        history=history,
        loaded=predictor,
        inputs=problem.inputs,
        summary=summary,
    )


def decided(
    problem: Problem, settings: Settings, honest: Outputs, say: Callable[[str], None]
) -> Task:
    """Return the task with the decisions that settings ask of calibrated outputs."""
    task, (row, place) = problem.task, np.nonzero(np.isfinite(honest).all(axis=2))
    known, targets = honest[row, place], problem.targets[place]
    if settings.min_recall:
        task = task.finding(settings.min_recall, targets, known)
    if settings.coverage is not None:
        task = task.answering(settings.coverage, known)
    for name, share in settings.min_recall.items():
        here = targets == place_of(name, task.names)
        answers = task.rules.decode(known[here])
        found = np.mean([answer == name for answer in answers if answer is not None])
        if found < share:
            say(
                f"warning: min_recall {name}={share:g} cannot be reached, not with all "
                f"else that is asked: {found:.2f} of what is answered is found."
            )
    return task


def answered_scores(
    task: Task, targets: np.ndarray, honest: Outputs
) -> dict[str, float]:
    """Return share and score of what a model answers; nothing if that is all."""
    if task.costs is None or task.costs.limit is None:
        return {}
    runs = predicted_rows(targets, honest)
    rows = [task.rules.scores(y, x, [task.metric]) for y, x in runs]
    return {name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]}


def _write(ready: Prepared, summary: dict[str, Any]) -> None:
    summary["timeline"] = ready.timeline.to_json()
    summary["seconds"] = round(ready.timeline.seconds, 1)
    path = ready.folder / RESULT_FILE
    path.write_text(json.dumps(summary, indent=2), "utf-8")


def _check(ready: Prepared, history: History, ranking: Ranking) -> None:
    """Say what keeps the best trial from being the model.

    Raises:
        RunError: If there is none that could be.
    """
    scores, say = ranking.scores, ready.listener.say
    if not scores:
        reasons = {outcome.reason for _, outcome in history if outcome.reason}
        listed = " ".join(sorted(reasons)[:5])
        raise RunError(
            "No trial could be finished. "
            f"{listed or 'The budget ended before the first trial.'} "
            "Give a larger budget."
        )
    best, _ = history[max(scores, key=lambda i: (scores[i], history[i][1].mean, -i))]
    if not ranking.order:
        raise RunError(
            "A finished trial must use a backbone that is at hand to become the "
            f"model, got none; the best was {best}. Fetch its backbone with: "
            "fewshot zoo get, or give a larger budget."
        )
    if not ready.context.is_at_hand(best):
        say(
            f"The best trial ({best}) used a backbone that is not at hand any more; "
            "the best of the others takes its place."
        )
    if not ranking.holds:
        config, outcome = history[ranking.order[0]]
        measures = ready.leader.measures(config, outcome)
        words = broken_in_words(ready.leader.aims.limits, measures)
        say(
            "warning: No trial keeps all limits. The model is the one that comes "
            f"closest, {config}: {words}. Loosen the limit, or search on with a larger "
            "budget."
        )


def _typical(
    ready: Prepared, tried: Tried, members: Sequence[int], *, is_fitted: bool
) -> list[str]:
    """Return the keys of the examples most like the others of their class.

    As the first member with a backbone sees them, one that only reads it rather than
    one that trains it; none without such a member. Of a model that was not fitted now
    they are those of the study it was taken from.
    """
    if not is_fitted:
        summary = read_summary(ready.follows or ready.folder)
        return list(summary.get("typical", ()))
    problem = tried.problem
    members = sorted(members, key=lambda number: tried.method(number).trains)
    config = next((c for c in map(tried.config, members) if "backbone" in c), None)
    if config is None or not isinstance(problem.task.rules, Classes):
        return []
    features = ready.context.encodings(config).pooled(whole=reads_windows(config))
    found = []
    for label in np.unique(problem.targets):
        rows = np.flatnonzero(problem.targets == label)
        directions = unit_rows(features[rows])
        alike = directions @ directions.sum(axis=0)
        found.append(problem.keys[rows[alike.argmax()]])
    return found


def _beside_best(
    tried: Tried, weights: Mapping[int, float], honest: Outputs
) -> dict[str, Any]:
    """Return what a committee wins and costs beside its best member; else nothing."""
    if len(weights) == 1:
        return {}
    problem, rules = tried.problem, tried.problem.task.rules
    alone = committee(tried, list(weights), 1)
    (number,) = alone
    there = np.isfinite(honest).any(axis=0)  # both are scored on the same examples
    outputs = np.where(there, tried.outputs[number], np.nan)
    both = honest, cross_calibrated(problem, outputs)
    proper = [name for name in rules.reported if rules.metric(name).needs == "outputs"]
    scores = {}
    for name in (problem.task.metric, *proper):
        metric = rules.metric(name)
        found = [pooled_score(metric, problem.targets, each) for each in both]
        scores[name] = [*map(metric.orient, found)]
    measured = [tried.measures(one) for one in (weights, alone)]
    known = all("latency_ms" in one for one in measured)
    times = {"latency_ms": [one["latency_ms"] for one in measured]} if known else {}
    return {"number": number, "scores": scores, **times}


def _account(
    ready: Prepared, history: History, ranking: Ranking, measures: Mapping[str, float]
) -> dict[str, Any]:
    aims, metric = ready.leader.aims, ready.context.problem.task.measured
    shown = {
        i: _shown(history, i, score, metric) for i, score in ranking.scores.items()
    }
    measured = ready.leader.measures
    over = [i for i in shown if broken(aims.limits, measured(*history[i]))]
    return {
        "objectives": [one.name for one in aims.objectives],
        "measures": dict(measures),
        "limits": [
            {
                **asdict(limit),
                "value": measures[limit.name],
                "is_kept": limit.allows(measures[limit.name]),
            }
            for limit in aims.limits
        ],
        "is_feasible": not broken(aims.limits, measures),
        "over": over,
        "keeping": len(shown) - len(over),
        "front": _front(ready, history, shown),
    }


def _front(
    ready: Prepared, history: History, shown: Mapping[int, float]
) -> list[dict[str, Any]]:
    """Return the trials of the front, the best score first; none if nobody asked.

    Measures that are only limited count as objectives here: how much score a tighter
    limit would cost is what one wants to see.
    """
    aims = ready.leader.aims
    objectives = {one.name: one for one in aims.objectives}
    for limit in aims.limits:
        is_maximised = MEASURES[limit.name].is_maximised
        objectives.setdefault(limit.name, Objective(limit.name, is_maximised))
    if len(objectives) == 1:
        return []
    every = Aims(
        objectives=tuple(objectives.values()), limits=aims.limits, exact=NO_LUCK
    )
    front = pareto_front(ready.space, history, every, ready.context.seed, scores=shown)
    return [
        {
            "number": i,
            "config": history[i][0].to_json(),
            SCORE: shown[i],
            **{n: history[i][1].measures[n] for n in objectives if n != SCORE},
        }
        for i in sorted(front, key=lambda i: -shown[i])
    ]


def _shown(history: History, number: int, score: float, metric: Metric) -> float:
    """Return a posterior mean as it is shown: a surrogate knows no bounds.

    Scores far below all others are moved by it onto a fence, which is right to rank by
    and wrong to show: `FAR` standard errors from it, the raw score stands.
    """
    outcome = history[number][1]
    if score - outcome.mean > FAR * outcome.standard_error:
        score = outcome.mean
    least, greatest = metric.limits
    return min(max(score, least), greatest)


def _baselines(tried: Tried) -> list[dict[str, Any]]:
    best: dict[str, int] = {}
    for i in sorted(tried.outputs, key=lambda i: tried.outcome(i).mean, reverse=True):
        if not tried.method(i).trains:
            best.setdefault(tried.config(i).text("method"), i)
    return [
        {
            "method": name,
            "config": tried.config(i).to_json(),
            "score": tried.problem.task.measured.orient(tried.outcome(i).mean),
            "standard_error": tried.outcome(i).standard_error,
        }
        for name, i in best.items()
    ]
