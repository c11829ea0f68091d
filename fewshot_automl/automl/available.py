"""Which backbones a fit may use under its limits, and fetching those it must have."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Final

from fewshot_automl.backbones import weights
from fewshot_automl.backbones.card import Card, TextInput
from fewshot_automl.backbones.readers import TextReader
from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.data import Examples
from fewshot_automl.errors import CardError, OutOfTime, UserError
from fewshot_automl.evaluation.measures import MEASURES
from fewshot_automl.finding import Finding, Severity
from fewshot_automl.oracle import Limit
from fewshot_automl.policy import broken, excess
from fewshot_automl.report.words import bound_of
from fewshot_automl.trial import card_measures

MANY_CUT: Final = 0.1
"""Share of texts that are cut, from which on a search may read all of each text."""


def broken_in_words(limits: Sequence[Limit], values: Mapping[str, float]) -> str:
    """Return what is beyond its limit; empty if nothing is.

    >>> broken_in_words([Limit("latency_ms", most=5.0)], {"latency_ms": 12.34})
    'latency 12.3 ms (at most 5 ms)'
    """
    rows = [(MEASURES[one.name], one) for one in broken(limits, values)]
    return ", ".join(
        f"{row.title} {row.format(values.get(row.name, math.nan))} "
        f"({bound_of(asdict(limit))})"
        for row, limit in rows
    )


def available_backbones(
    modality: str,
    names: Sequence[str] | None,
    say: Callable[[str], None],
    deadline: float | None,
    limits: Sequence[Limit] = (),
    is_needed: bool = True,
    others: Sequence[str] = (),
) -> tuple[tuple[Card, ...], tuple[Card, ...]]:
    """Return the backbones to search, and those whose weights are not here.

    Named ones and the default are fetched. What breaks a limit by its card is left out
    before that. If that is the default, and nothing else is at hand, the best of the
    others is fetched that a package carries. There are none where none is needed.
    If nothing can be fetched, a study goes on with the other methods, if it has some.

    Raises:
        UserError: If a name is unknown or of another modality, or limits allow none.
        CardError: If named weights, or any weights at all, cannot be had.
    """
    zoo = Zoo.known()
    every = zoo.cards(modality) if names is None else named_cards(zoo, names, modality)
    if not is_needed:
        return (), ()
    limits = [x for x in limits if all(x.name in card_measures(c) for c in every)]
    cards = [card for card in every if not broken(limits, card_measures(card))]
    over = [card for card in every if card not in cards]
    here = [card for card in over if names is not None or zoo.is_at_hand(card)]
    if here:
        words = [f"{x.id}, {broken_in_words(limits, card_measures(x))}" for x in here]
        say(Finding.at("limit", "note", "Left out, over a limit.", words).line())
    at_hand = [card for card in cards if zoo.is_at_hand(card)]
    default = [card for card in cards if card.is_default]
    carried = [card for card in cards if card.is_embedded and not at_hand]
    wanted = cards if names is not None else default or carried[:1]
    for card in wanted:
        if card in at_hand:
            continue
        say(f"Fetching the weights of {card.id} (once; they are kept).")
        try:
            weights.get(card, progress=lambda x: say(f"  {x}"), deadline=deadline)
        except (CardError, OutOfTime) as error:
            can_go_on = at_hand or (others and not isinstance(error, OutOfTime))
            if names is not None or not can_go_on:
                raise
            if at_hand:
                say(f"Backbone {card.id} is left out: {error}")
                continue
            say(
                "warning: Pretrained weights are not at hand and cannot be fetched. "
                f"Only {' and '.join(others)} will be tried, which need none. Get them "
                f"with: fewshot zoo get {card.id} (--from DIR without a network)"
            )
        else:
            at_hand.append(card)
    missing = tuple(card for card in cards if card not in at_hand)
    if missing and at_hand:
        advice = "Skipped, weights not at hand; get them with: fewshot zoo get ID"
        skipped = [card.id for card in missing]
        say(Finding.at("weights", "note", advice, skipped).line())
    if over and not at_hand:
        smallest = min(here or over, key=lambda x: excess(limits, card_measures(x)))
        raise UserError(
            f"Limits must leave at least one backbone, got none; nearest is "
            f"{smallest.id!r} with "
            f"{broken_in_words(limits, card_measures(smallest))}. Loosen the limit, "
            "name smaller backbones (fewshot zoo), or search --methods without a "
            "backbone."
        )
    return tuple(at_hand), missing


def texts_cut(
    cards: Sequence[Card], examples: Examples
) -> tuple[list[Finding], tuple[str, ...]]:
    """Return what backbones cut off texts, and which of them cut many.

    Only texts of more bytes than a backbone takes tokens are tokenised.
    """
    said, many = [], []
    texts = list(map(str, examples.inputs))
    for card, recipe in ((c, c.input) for c in cards if isinstance(c.input, TextInput)):
        most = recipe.max_tokens
        if long := [text for text in texts if len(text.encode()) > most]:
            reader = TextReader(recipe, weights.locate(card), 0)
            if shares := list(filter(None, reader.shares_cut(long))):
                mean = f"{sum(shares) / len(shares):.0%} of {len(shares):,}"
                said.append(f"{card.id} {mean} (it reads {most:,} tokens)")
            if len(shares) >= MANY_CUT * len(texts):
                many.append(card.id)
    message = (
        f"Of {len(examples):,} texts, some are longer than a backbone reads, and their "
        f"end is cut off: {', '.join(said)}. Put first what matters; where many are "
        "cut, probe and prototype also try all of each text, in windows."
    )
    level: Severity = "warning" if many else "note"
    found = [Finding(kind="long text", severity=level, message=message)] * bool(said)
    return found, tuple(many)


def named_cards(zoo: Zoo, names: Sequence[str], modality: str) -> tuple[Card, ...]:
    """Return the cards of these names, each once.

    Raises:
        UserError: If a name is unknown, or a backbone is of another modality.
    """
    cards = tuple(dict.fromkeys(zoo[name] for name in names))
    for card in cards:
        if card.modality != modality:
            raise UserError(
                f"Backbones must be for {modality}, got {card.id!r} for "
                f"{card.modality}. List them with: fewshot zoo"
            )
    return cards
