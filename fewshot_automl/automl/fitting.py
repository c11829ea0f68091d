"""The final fit: the winner on all examples, or who takes its place, and partners."""

import time
from collections.abc import Mapping, Sequence
from typing import Final

from fewshot_automl.adaptation.method import Fitted
from fewshot_automl.adaptation.saved import latency_seconds, middling
from fewshot_automl.automl.limits import Limits, broken_in_words
from fewshot_automl.automl.prepare import Prepared
from fewshot_automl.automl.tried import Tried
from fewshot_automl.errors import RunError, TrialError
from fewshot_automl.evaluation.measures import added_up
from fewshot_automl.trial import TrialContext, refit, size_of

MOST_FITTED: Final = 5
"""Models fitted to all examples, at most, to find one that still keeps the limits."""


def fitted_winner(
    ready: Prepared,
    tried: Tried,
    order: Sequence[int],
    deadline: float | None,
    limits: Limits,
) -> tuple[int, Fitted]:
    """Fit the winner; if that fails or takes too long, the best cheap Config.

    A model that breaks a limit once it is fitted to all examples gives way to the
    next best, `MOST_FITTED` times and then to cheap ones; if all do, the first stays.

    Args:
        ready: Where to fit, and who is told of what gives way.
        tried: All trials.
        order: Numbers of those that may win, the best first.
        deadline: `time.monotonic()` at which the model must be there.
        limits: What the model must keep.

    Raises:
        RunError: If none can be fitted.
    """
    context, say = ready.context, ready.listener.say
    beyond: list[tuple[int, Fitted]] = []
    seen = []
    for number in order[:MOST_FITTED]:
        seen.append(number)
        try:
            fitted = refit(context, tried.config(number), deadline)
        except TrialError as error:
            say(
                f"{'The winner' if len(seen) == 1 else 'The next'} could not be fitted "
                f"to all examples ({error}); the best cheap model takes its place."
            )
            break
        if not (over := _over({number: fitted}, tried, context, limits)):
            return number, fitted
        say(f"{over}; the next best takes its place.")
        beyond.append((number, fitted))
    cheap = [
        i
        for i in tried.done
        if i not in seen and not tried.trains(i) and context.is_at_hand(tried.config(i))
    ]
    for number in sorted(cheap, key=lambda i: (i not in order, -tried.outcome(i).mean)):
        if beyond and number not in order:
            break
        try:
            fitted = refit(context, tried.config(number))
        except TrialError as error:
            say(f"Neither could {tried.config(number)}: {error}")
            continue
        if number not in order or not _over({number: fitted}, tried, context, limits):
            return number, fitted
        beyond.append((number, fitted))
    if beyond:
        return beyond[0]
    raise RunError("No model could be fitted to all examples. Give a larger budget.")


def with_partners(
    ready: Prepared,
    tried: Tried,
    winner: tuple[int, Fitted],
    wanted: Sequence[int],
    saving_seconds: float,
    deadline: float | None,
) -> dict[int, Fitted]:
    """Return a fitted model and those partners that fit the time and the limits.

    Args:
        ready: Where to fit, and who is told of a partner that is left out.
        tried: All trials.
        winner: Its number and model.
        wanted: Numbers of the partners, the most trusted first.
        saving_seconds: Needed after the fits, besides scoring.
        deadline: `time.monotonic()` at which all must be over.
    """
    costs, limits = ready.costs.after(tried.history), ready.leader.aims.limits

    def scoring(number: int) -> float:
        return costs.scoring_seconds(tried.config(number), ready.tested)

    kept = dict([winner])
    needed = saving_seconds + scoring(winner[0])
    for number in wanted:
        config = tried.config(number)
        more = costs.refit_seconds(config) + scoring(number)
        if deadline is not None and deadline - time.monotonic() <= needed + more:
            continue
        try:
            parts = {**kept, number: refit(ready.context, config, deadline)}
        except TrialError as error:
            ready.listener.say(f"Not averaged in: {config} ({error})")
            continue
        if over := _over(parts, tried, ready.context, limits):
            ready.listener.say(f"Not averaged in. {over}.")
        else:
            kept = parts
            needed += scoring(number)
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


def _over(
    parts: Mapping[int, Fitted], tried: Tried, context: TrialContext, limits: Limits
) -> str:
    """Return what models break together, fitted to all examples; empty if nothing."""
    if not limits:
        return ""
    words = broken_in_words(limits, fitted_measures(parts, tried, context))
    last = tried.config(list(parts)[-1])
    return f"Fitted to all examples, {last} is over a limit: {words}" if words else ""
