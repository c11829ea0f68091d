"""The final fit: the winner on all examples, or who takes its place, and partners."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from fewshot_automl.adaptation.deployed import latency_seconds, middling
from fewshot_automl.adaptation.method import Fitted
from fewshot_automl.automl.limits import Limits, broken_in_words
from fewshot_automl.automl.listener import Listener
from fewshot_automl.automl.tried import Tried
from fewshot_automl.errors import RunError, TrialError
from fewshot_automl.evaluation.measures import added_up
from fewshot_automl.trial import TrialContext, refit, size_of

MOST_FITTED: Final = 5
"""Models fitted to all examples, at most, to find one that still keeps the limits."""


def fitted_winner(
    context: TrialContext,
    tried: Tried,
    order: Sequence[int],
    deadline: float | None,
    listener: Listener,
    limits: Limits,
) -> tuple[int, Fitted]:
    """Fit the winner; if that fails or takes too long, the best cheap Config.

    A model that breaks a limit once it is fitted to all examples gives way to the
    next best, `MOST_FITTED` times and then to cheap ones; if all do, the first stays.

    Args:
        context: Where to fit.
        tried: All trials.
        order: Numbers of those that may win, the best first.
        deadline: `time.monotonic()` at which the model must be there.
        listener: Told of what gives way.
        limits: What the model must keep.

    Raises:
        RunError: If none can be fitted.
    """
    beyond: list[tuple[int, Fitted]] = []
    seen = []
    for number in order[:MOST_FITTED]:
        seen.append(number)
        try:
            fitted = refit(context, tried.config(number), deadline)
        except TrialError as error:
            listener.say(
                f"{'The winner' if len(seen) == 1 else 'The next'} could not be "
                f"fitted to all examples ({error}); the best cheap model takes its "
                "place."
            )
            break
        if over := _over({number: fitted}, tried, context, limits):
            listener.say(f"{over}; the next best takes its place.")
            beyond.append((number, fitted))
        else:
            return number, fitted
    for number in _cheap(context, tried, order):
        if number in seen or (beyond and number not in order):
            continue
        try:
            fitted = refit(context, tried.config(number))
        except TrialError as error:
            listener.say(f"Neither could {tried.config(number)}: {error}")
            continue
        if number not in order or not _over({number: fitted}, tried, context, limits):
            return number, fitted
        beyond.append((number, fitted))
    if beyond:
        return beyond[0]
    raise RunError("No model could be fitted to all examples. Give a larger budget.")


def with_partners(
    parts: Mapping[int, Fitted],
    wanted: Sequence[int],
    tried: Tried,
    context: TrialContext,
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
        wanted: Numbers of the partners, the most trusted first.
        tried: All trials.
        context: Where to fit.
        seconds: What fitting a partner takes, and what scoring it will.
        promised: Seconds that are needed after the fits.
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
            fitted = refit(context, tried.config(partner), deadline)
        except TrialError as error:
            listener.say(f"Not averaged in: {tried.config(partner)} ({error})")
            continue
        more = {**kept, partner: fitted}
        if over := _over(more, tried, context, limits):
            listener.say(f"Not averaged in. {over}.")
        else:
            kept = more
            promised += scoring
    return kept


def fitted_measures(
    parts: Mapping[int, Fitted], tried: Tried, context: TrialContext
) -> dict[str, float]:
    """Return the measures of models that are fitted to all examples.

    What can be counted is counted anew, for some heads keep examples. The latency is
    the lesser of the trial's and a new one: other work on the machine only adds.
    """
    example, device = middling(context.problem.inputs), context.placement.device
    found = []
    for number, fitted in parts.items():
        values = {**tried.outcome(number).measures, **size_of(fitted)}
        if "latency_ms" in values:
            seconds = latency_seconds(fitted, example, device)
            values["latency_ms"] = min(values["latency_ms"], 1000 * seconds)
        found.append(values)
    return {**tried.measures(list(parts)), **added_up(found)}


def _cheap(context: TrialContext, tried: Tried, order: Sequence[int]) -> list[int]:
    """Return the cheap trials, those first that may win, the best first."""
    cheap = [
        i
        for i in tried.done
        if not tried.trains(i) and context.is_at_hand(tried.config(i))
    ]
    return sorted(cheap, key=lambda i: (i not in order, -tried.outcome(i).mean))


def _over(
    parts: Mapping[int, Fitted], tried: Tried, context: TrialContext, limits: Limits
) -> str:
    """Return what models break together, fitted to all examples; empty if nothing."""
    if not limits:
        return ""
    words = broken_in_words(limits, fitted_measures(parts, tried, context))
    last = tried.config(list(parts)[-1])
    return f"Fitted to all examples, {last} is over a limit: {words}" if words else ""
