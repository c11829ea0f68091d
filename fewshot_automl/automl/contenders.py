"""Which trials may become the model where it must keep limits, and what it then is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int

from fewshot_automl.adaptation.deployed import (
    latency_seconds,
    median_seconds,
    middling,
)
from fewshot_automl.adaptation.method import Fitted
from fewshot_automl.automl.choice import blended
from fewshot_automl.automl.limits import Limits, broken, broken_by, excess, told
from fewshot_automl.automl.listener import Listener
from fewshot_automl.automl.scoring import predictions
from fewshot_automl.evaluation.measures import MEASURES, SCORE, added_up
from fewshot_automl.evaluation.objectives import objective, score
from fewshot_automl.oracle.front import front, within
from fewshot_automl.oracle.goals import Goal
from fewshot_automl.outcome import History
from fewshot_automl.predictor import Predictor
from fewshot_automl.space import Space
from fewshot_automl.trial.measured import size_of
from fewshot_automl.trial.predicted import WORST_RECALL
from fewshot_automl.trial.workbench import Workbench

FAR: Final = 3.0
"""Standard errors above the raw score at which a smoothed one is not believed."""
FIXED: Final = frozenset(name for name, row in MEASURES.items() if row.adds_up)
"""Measures without luck: counted, or timed once for all Configs that are alike."""
TIMES: Final = 3
"""Times that a latency beyond its limit is measured: noise only ever adds to it."""


def contenders(
    space: Space,
    history: History,
    smoothed: Mapping[int, float],
    limits: Limits,
    seed: int,
    listener: Listener,
) -> tuple[dict[int, float], bool]:
    """Return the smoothed scores of the trials that may become the model.

    Those keep every limit, as measured and with luck set aside; if there are none,
    as measured; if there are none, those that are beyond the limits by least.

    Args:
        space: Where the Configs live.
        history: All trials.
        smoothed: Of each trial that could be fitted again.
        limits: What must hold.
        seed: Makes fits repeatable.
        listener: Told if no trial keeps the limits.

    Returns:
        The scores by place in the history, and whether the limits hold for them.
    """
    if not limits:
        return dict(smoothed), True
    sure = set(within(space, history, limits, seed, FIXED))
    kept = [i for i in smoothed if not broken(limits, history[i][1].measures)]
    kept = [i for i in kept if i in sure] or kept
    if kept:
        return {i: smoothed[i] for i in kept}, True
    shares = {i: excess(limits, history[i][1].measures) for i in smoothed}
    least = min(shares.values())
    closest = [i for i in smoothed if shares[i] <= least]
    config, outcome = history[max(closest, key=lambda i: smoothed[i])]
    named = ", ".join(
        told(limit, outcome.measures) for limit in broken(limits, outcome.measures)
    )
    listener.say(
        f"warning: No trial keeps all limits. The model is the one that comes closest, "
        f"{config}: {named}. Loosen the limit, or search on with a larger budget."
    )
    return {i: smoothed[i] for i in closest}, False


def foreseen(
    places: Sequence[int],
    history: History,
    labels: Int[np.ndarray, " examples"],
    folder: Path,
) -> dict[str, float]:
    """Return the measures of one trial's model, or of the average of several.

    Sizes and times add up; the weakest class is that of the averaged predictions.
    """
    outcomes = [history[i][1] for i in places]
    values = added_up([outcome.measures for outcome in outcomes])
    probas = [predictions(folder, outcome) for outcome in outcomes]
    proba = blended(labels, probas) if len(probas) > 1 else probas[0]
    return {**values, "worst_recall": weakest(labels, proba)}


def fitted_measures(
    parts: Mapping[int, Fitted], history: History, workbench: Workbench
) -> dict[str, float]:
    """Return the measures of models that are fitted to all examples, as `foreseen`.

    What can be counted is counted anew, for some heads keep examples. The latency is
    the lesser of the trial's and a new one: other work on the machine only adds.
    """
    problem, device = workbench.problem, workbench.placement.device
    found = []
    for place, fitted in parts.items():
        values = {**history[place][1].measures, **size_of(fitted)}
        if "latency_ms" in values:
            seconds = latency_seconds(fitted, middling(problem.inputs), device)
            values["latency_ms"] = min(values["latency_ms"], 1000 * seconds)
        found.append(values)
    whole = foreseen(list(parts), history, problem.labels, workbench.folder)
    return {**whole, **added_up(found)}


def delivered_measures(
    model: Predictor,
    foretold: Mapping[str, float],
    limits: Limits,
    workbench: Workbench,
    proba: Float[np.ndarray, "repeats examples classes"],
) -> dict[str, float]:
    """Return the measures of a saved model that was read back; its latency is new.

    Args:
        model: As it was read back.
        foretold: What cannot be seen on it: the operations of its backbones.
        limits: A latency beyond its limit is measured again, lest it be noise.
        workbench: Knows the examples.
        proba: The model's out-of-fold predictions.
    """
    problem = workbench.problem
    example = middling(problem.inputs)
    latency = [limit for limit in limits if limit.name == "latency_ms"]
    times: list[float] = []
    while len(times) < TIMES:
        seconds = median_seconds(lambda: model.predict_proba_of((example,)))
        times.append(1000 * seconds)
        if not broken(latency, {"latency_ms": min(times)}):
            break
    return {
        **size_of(model.fitted),
        "flops": foretold.get("flops", 0.0),
        "latency_ms": min(times),
        "worst_recall": weakest(problem.labels, proba),
    }


def weakest(
    labels: Int[np.ndarray, " examples"],
    proba: Float[np.ndarray, "repeats examples classes"],
) -> float:
    """Return the recall of the class that is found least, averaged over repeats."""
    return float(np.mean([score(WORST_RECALL, labels, row) for row in proba]))


def believed(history: History, smoothed: Mapping[int, float]) -> dict[int, float]:
    """Return what is shown as the score of each trial: without luck, as far as known.

    A surrogate moves scores far below all others onto a fence, which is right to rank
    by and wrong to show: `FAR` standard errors from it, the raw score stands.
    """
    shown = {}
    for i, value in smoothed.items():
        outcome = history[i][1]
        is_far = value - outcome.mean > FAR * outcome.standard_error
        shown[i] = outcome.mean if is_far else value
    return shown


def possible(score: float, metric: str) -> float:
    """Return a score as it is shown: a surrogate knows no bounds, a metric has some.

    Beyond them the winner is still sought; the front is that of what is shown.

    >>> possible(1.004, "accuracy"), possible(0.02, "log_loss")
    (1.0, 0.0)
    """
    measured = objective(metric)
    worst, best = measured.orient(measured.worst), measured.orient(measured.best)
    return min(max(score, worst), best)


def beyond(history: History, limits: Limits) -> list[int]:
    """Return the places of the done trials that break a limit."""
    done = [i for i, (_, outcome) in enumerate(history) if outcome.is_done]
    return [i for i in done if broken_by(limits, history[i][1])]


def keeping(history: History, limits: Limits) -> int:
    """Return how many done trials keep all limits."""
    done = (outcome for _, outcome in history if outcome.is_done)
    return sum(not broken_by(limits, outcome) for outcome in done)


def account(
    space: Space,
    history: History,
    smoothed: Mapping[int, float],
    goals: Sequence[Goal],
    limits: Limits,
    measures: Mapping[str, float],
    metric: str,
    seed: int,
) -> dict[str, Any]:
    """Return what `result.json` says of objectives and limits.

    Args:
        space: Where the Configs live.
        history: All trials.
        smoothed: Of each trial that could be fitted again.
        goals: The score first.
        limits: What must hold.
        measures: Of the delivered model.
        metric: What a score is.
        seed: Makes fits repeatable.
    """
    believable = believed(history, smoothed)
    shown = {i: possible(value, metric) for i, value in believable.items()}
    return {
        "objectives": [goal.name for goal in goals],
        "measures": dict(measures),
        "limits": [
            {
                **asdict(limit),
                "value": measures[limit.name],
                "is_kept": limit.allows(measures[limit.name]),
            }
            for limit in limits
        ],
        "is_feasible": not broken(limits, measures),
        "over": beyond(history, limits),
        "keeping": keeping(history, limits),
        "smoothed": [shown.get(i) for i in range(len(history))],
        "front": front_of(space, history, shown, goals, limits, seed),
    }


def front_of(
    space: Space,
    history: History,
    shown: Mapping[int, float],
    goals: Sequence[Goal],
    limits: Limits,
    seed: int,
) -> list[dict[str, Any]]:
    """Return the trials of the front, the best score first; none if nobody asked.

    Measures that are only limited count as objectives here: how much score a tighter
    limit would cost is what one wants to see.

    Args:
        space: Where the Configs live.
        history: All trials.
        shown: Score of each trial that could be fitted again.
        goals: The score first.
        limits: What must hold.
        seed: Makes fits repeatable.
    """
    every = [*goals, *_limited(limits, {goal.name for goal in goals})]
    if len(every) == 1:
        return []
    places = front(space, history, every, limits, seed, FIXED, shown)
    return [
        {
            "number": i,
            "config": history[i][0].to_json(),
            SCORE: shown[i],
            **{g.name: history[i][1].measures[g.name] for g in every[1:]},
        }
        for i in sorted((i for i in places if i in shown), key=lambda i: -shown[i])
    ]


def _limited(limits: Limits, known: Iterable[str]) -> list[Goal]:
    """Return a goal for every measure that is only limited."""
    return [
        Goal(limit.name, maximise=MEASURES[limit.name].is_maximised)
        for limit in limits
        if limit.name not in known
    ]
