"""Limits in words, and what a card says of them."""

import math
from collections.abc import Mapping, Sequence

from fewshot_automl.automl.listener import Listener
from fewshot_automl.backbones.card import Card
from fewshot_automl.evaluation.measures import MEASURES
from fewshot_automl.oracle import Limit
from fewshot_automl.policy import broken, excess
from fewshot_automl.trial import card_measures

Limits = Sequence[Limit]


def beside_limit(limit: Limit, values: Mapping[str, float]) -> str:
    """Return a measured value beside its limit.

    >>> beside_limit(Limit("latency_ms", most=5.0), {"latency_ms": 12.34})
    'latency 12.3 ms (at most 5 ms)'
    """
    measure = MEASURES[limit.name]
    value = values.get(limit.name, math.nan)
    known = "not measured" if math.isnan(value) else measure.format(value)
    ends = [("at least", limit.least), ("at most", limit.most)]
    bound = " and ".join(
        f"{words} {measure.format(end)}" for words, end in ends if end is not None
    )
    return f"{measure.title} {known} ({bound})"


def broken_in_words(limits: Limits, values: Mapping[str, float]) -> str:
    """Return what is beyond its limit; empty if nothing is."""
    return ", ".join(beside_limit(limit, values) for limit in broken(limits, values))


def excess_of_card(card: Card, limits: Limits) -> float:
    """Return by how much every model on a backbone breaks limits, by its card."""
    return excess(_of_cards(card, limits), card_measures(card))


def broken_by_card(card: Card, limits: Limits) -> str:
    """Return the limits that every model on a backbone breaks, in words."""
    return broken_in_words(_of_cards(card, limits), card_measures(card))


def say_limits(
    limits: Limits, measures: Mapping[str, float], listener: Listener
) -> None:
    """Say what the delivered model measures beside its limits."""
    if words := broken_in_words(limits, measures):
        listener.say(f"warning: The model breaks a limit: {words}.")
    beyond = broken(limits, measures)
    if kept := [limit for limit in limits if limit not in beyond]:
        named = ", ".join(beside_limit(limit, measures) for limit in kept)
        listener.say(f"The model keeps: {named}.")


def _of_cards(card: Card, limits: Limits) -> list[Limit]:
    known = card_measures(card)
    return [limit for limit in limits if limit.name in known]
