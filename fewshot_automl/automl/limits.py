"""Limits on what a model may cost: which are kept, by how much others are broken."""

import math
from collections.abc import Mapping, Sequence

from fewshot_automl.automl.listener import Listener
from fewshot_automl.backbones.card import Card
from fewshot_automl.evaluation.measures import MEASURES
from fewshot_automl.oracle.goals import Limit
from fewshot_automl.outcome import History, Outcome
from fewshot_automl.space import Choice, Space
from fewshot_automl.trial.measured import card_measures

Limits = Sequence[Limit]


def broken(limits: Limits, values: Mapping[str, float]) -> list[Limit]:
    """Return the limits that measured values do not keep; what is unknown does not.

    >>> limits = (Limit("flops", most=10.0), Limit("worst_recall", least=0.5))
    >>> [limit.name for limit in broken(limits, {"flops": 7.0})]
    ['worst_recall']
    """
    return [limit for limit in limits if not limit.allows(_value(limit, values))]


def broken_by(limits: Limits, outcome: Outcome) -> list[Limit]:
    """Return the limits that a done trial does not keep.

    >>> outcome = Outcome(status="done", mean=0.5, measures={"flops": 17.0})
    >>> [limit.name for limit in broken_by((Limit("flops", most=10.0),), outcome)]
    ['flops']
    """
    return broken(limits, outcome.measures)


def excess(limits: Limits, values: Mapping[str, float]) -> float:
    """Return by what share of each limit values are beyond it, added up.

    >>> excess((Limit("flops", most=10.0),), {"flops": 15.0})
    0.5
    """
    return sum((_excess(limit, _value(limit, values)) for limit in limits), 0.0)


def told(limit: Limit, values: Mapping[str, float]) -> str:
    """Return a measured value beside its limit.

    >>> told(Limit("latency_ms", most=5.0), {"latency_ms": 12.34})
    'latency 12.3 ms (at most 5 ms)'
    """
    measure = MEASURES[limit.name]
    value = _value(limit, values)
    known = "not measured" if math.isnan(value) else measure.told(value)
    ends = [("at least", limit.least), ("at most", limit.most)]
    bound = " and ".join(
        f"{words} {measure.told(end)}" for words, end in ends if end is not None
    )
    return f"{measure.title} {known} ({bound})"


def fits(card: Card, limits: Limits) -> bool:
    """Return whether a model on a backbone may keep all limits, by its card."""
    return not excess_of_card(card, limits)


def excess_of_card(card: Card, limits: Limits) -> float:
    """Return by how much every model on a backbone breaks limits, by its card."""
    facts = card_measures(card)
    return excess([limit for limit in limits if limit.name in facts], facts)


def told_of_card(card: Card, limits: Limits) -> str:
    """Return the limits that every model on a backbone breaks, in words."""
    facts = card_measures(card)
    mattering = [limit for limit in limits if limit.name in facts]
    return ", ".join(told(limit, facts) for limit in broken(mattering, facts))


def allowed_space(space: Space, history: History, limits: Limits) -> Space:
    """Return a space without the backbones that were measured to break a limit.

    A backbone goes if every trial on it that is done broke a limit of what a Config
    costs. Its recall may still rise, and what was not measured may be kept. If none
    would be left, all stay.

    Args:
        space: The study's, or a part of it.
        history: Trials so far.
        limits: What must hold.
    """
    costs = [limit for limit in limits if MEASURES[limit.name].adds_up]
    if not costs or "backbone" not in space:
        return space
    dimension = space["backbone"]
    assert isinstance(dimension, Choice)
    kept: dict[str, bool] = {}
    for config, outcome in history:
        if outcome.is_done and "backbone" in config:
            name = config.text("backbone")
            measured = [limit for limit in costs if limit.name in outcome.measures]
            holds = not broken(measured, outcome.measures)
            kept[name] = kept.get(name, False) or holds
    allowed = [name for name in dimension.options if kept.get(name, True)]
    if not allowed or len(allowed) == len(dimension.options):
        return space
    return space.narrow("backbone", allowed)


def say_limits(
    limits: Limits, measures: Mapping[str, float], listener: Listener
) -> None:
    """Say what the delivered model measures beside its limits."""
    if not limits:
        return
    if beyond := broken(limits, measures):
        named = ", ".join(told(limit, measures) for limit in beyond)
        listener.say(f"warning: The model breaks a limit: {named}.")
    if kept := [limit for limit in limits if limit not in beyond]:
        named = ", ".join(told(limit, measures) for limit in kept)
        listener.say(f"The model keeps: {named}.")


def _value(limit: Limit, values: Mapping[str, float]) -> float:
    return float(values.get(limit.name, math.nan))


def _excess(limit: Limit, value: float) -> float:
    if math.isnan(value):
        return math.inf
    over = 0.0 if limit.most is None else (value - limit.most) / abs(limit.most or 1.0)
    under = (
        0.0 if limit.least is None else (limit.least - value) / abs(limit.least or 1.0)
    )
    return max(over, under, 0.0)
