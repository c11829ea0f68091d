"""The final fit: the winner on all examples, or who takes its place."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from fewshot_automl.adaptation.method import Fitted
from fewshot_automl.automl.contenders import fitted_measures
from fewshot_automl.automl.limits import Limits, broken, told
from fewshot_automl.automl.listener import Listener
from fewshot_automl.errors import RunError, TrialError
from fewshot_automl.outcome import History
from fewshot_automl.space import Config
from fewshot_automl.trial.evaluate import refit
from fewshot_automl.trial.workbench import Workbench
from fewshot_automl.trial.workload import is_dear

MOST_FITTED: Final = 5
"""Models fitted to all examples, at most, to find one that still keeps the limits."""


def is_at_hand(workbench: Workbench, config: Config) -> bool:
    """Return whether a Config's backbone, if it has one, can be loaded.

    A resumed study may have fewer backbones than it began with.
    """
    known = {card.id for card in workbench.cards}
    return "backbone" not in config or config.text("backbone") in known


def fitted_winner(
    workbench: Workbench,
    history: History,
    order: Sequence[int],
    deadline: float | None,
    listener: Listener,
    limits: Limits,
) -> tuple[int, Fitted]:
    """Fit the winner; if that fails or takes too long, the best cheap Config.

    A model that breaks a limit once it is fitted to all examples gives way to the
    next best, `MOST_FITTED` times and then to quick ones; if all do, the first stays.

    Args:
        workbench: Where to fit.
        history: All trials.
        order: Places of those that may win, the best first.
        deadline: `time.monotonic()` at which the model must be there.
        listener: Told of what gives way.
        limits: What the model must keep.

    Raises:
        RunError: If none can be fitted.
    """
    beyond: list[tuple[int, Fitted]] = []
    tried = []
    for place in order[:MOST_FITTED]:
        tried.append(place)
        try:
            fitted = refit(workbench, history[place][0], deadline)
        except TrialError as error:
            listener.say(
                f"{'The winner' if len(tried) == 1 else 'The next'} could not be "
                f"fitted to all examples ({error}); the best quick model takes its "
                "place."
            )
            break
        if over := _over({place: fitted}, history, workbench, limits):
            listener.say(f"{over}; the next best takes its place.")
            beyond.append((place, fitted))
        else:
            return place, fitted
    for place in _quick(workbench, history, order):
        if place in tried or (beyond and place not in order):
            continue
        try:
            fitted = refit(workbench, history[place][0])
        except TrialError as error:
            listener.say(f"Neither could {history[place][0]}: {error}")
            continue
        if place not in order or not _over({place: fitted}, history, workbench, limits):
            return place, fitted
        beyond.append((place, fitted))
    if beyond:
        return beyond[0]
    raise RunError("No model could be fitted to all examples. Give a larger budget.")


def _quick(workbench: Workbench, history: History, order: Sequence[int]) -> list[int]:
    """Return the quick trials, those first that may win, the best first."""
    quick = [
        i
        for i, (config, outcome) in enumerate(history)
        if outcome.is_done and not is_dear(config) and is_at_hand(workbench, config)
    ]
    return sorted(quick, key=lambda i: (i not in order, -history[i][1].mean))


def with_partners(
    parts: Mapping[int, Fitted],
    wanted: Sequence[int],
    history: History,
    workbench: Workbench,
    *,
    seconds: Callable[[int], tuple[float, float]],
    promised: float,
    deadline: float | None,
    listener: Listener,
    limits: Limits,
) -> dict[int, Fitted]:
    """Return a fitted model and those partners that fit the time and the limits.

    Args:
        parts: The winner.
        wanted: Places of the partners, the most trusted first.
        history: All trials.
        workbench: Where to fit.
        seconds: What fitting a partner takes, and what scoring it will.
        promised: Seconds that are spoken for after the fits.
        deadline: `time.monotonic()` at which all must be over.
        listener: Told of a partner that is left out.
        limits: What all together must keep.
    """
    kept = dict(parts)
    for partner in wanted:
        fitting, scoring = seconds(partner)
        needed = promised + fitting + scoring
        if deadline is not None and deadline - time.monotonic() <= needed:
            continue
        try:
            fitted = refit(workbench, history[partner][0], deadline)
        except TrialError as error:
            listener.say(f"Not averaged in: {history[partner][0]} ({error})")
            continue
        more = {**kept, partner: fitted}
        if over := _over(more, history, workbench, limits):
            listener.say(f"Not averaged in. {over}.")
        else:
            kept = more
            promised += scoring
    return kept


def _over(
    parts: Mapping[int, Fitted], history: History, workbench: Workbench, limits: Limits
) -> str:
    """Return what models break together, fitted to all examples; empty if nothing."""
    if not limits:
        return ""
    values = fitted_measures(parts, history, workbench)
    named = ", ".join(told(limit, values) for limit in broken(limits, values))
    last = history[list(parts)[-1]][0]
    return f"Fitted to all examples, {last} is over a limit: {named}" if named else ""
