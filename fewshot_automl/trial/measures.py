"""What a model measures besides its score: its size and its speed, known or timed."""

import logging
from collections.abc import Callable, Mapping, Sequence, Set
from functools import cache
from typing import Final

import torch

from fewshot_automl.adaptation.frozen import reads_windows
from fewshot_automl.adaptation.kinds import FLOAT, Numbers
from fewshot_automl.adaptation.lora import update_numbers
from fewshot_automl.adaptation.method import Fitted
from fewshot_automl.adaptation.saved import MEGABYTE, latency_seconds, middling, size_of
from fewshot_automl.adaptation.table import method
from fewshot_automl.backbones import weights
from fewshot_automl.backbones.backbone import Anatomy
from fewshot_automl.backbones.card import Card
from fewshot_automl.backbones.load import build
from fewshot_automl.space import Config
from fewshot_automl.trial.context import Problem, TrialContext
from fewshot_automl.trial.workload import first_trained

logger = logging.getLogger(__name__)

Exact = Mapping[str, Callable[[Config], float]]
"""Works out measures of Configs, by name."""
Updates = list[tuple[int, int]]
"""For each first adapted block, the numbers of LoRA layers a rank, and DoRA's besides.
"""

SIZES: Final = frozenset({"parameters", "memory_mb"})
"""Measures that follow from the numbers a model holds."""


def measures_of(
    context: TrialContext, config: Config, fitted: Fitted
) -> dict[str, float]:
    """Return the size and speed of a trial's model, in natural units.

    Parameters and bytes are counted. Operations are those of the card: a head is
    nothing beside a backbone, and LoRA layers are some hundredths of it. The latency
    is measured once for each backbone, with LoRA layers and without, so that trials
    which differ in nothing that takes time do not differ by noise.
    """
    place = config.get("backbone", config["method"])
    form = place, "rank" in config, reads_windows(config)
    if form not in context.latencies:
        example = middling(context.problem.inputs)
        device = context.placement.device
        context.latencies[form] = latency_seconds(fitted, example, device)
    card = context.card(config.text("backbone")) if "backbone" in config else None
    return {
        **size_of(fitted),
        "flops": 0.0 if card is None else float(card.flops),
        "latency_ms": 1000 * context.latencies[form],
    }


def card_measures(card: Card) -> dict[str, float]:
    """Return what a card says of every model on its backbone: no less than this."""
    return {
        "parameters": float(card.parameters),
        "flops": float(card.flops),
        "memory_mb": FLOAT * card.parameters / MEGABYTE,
    }


def exact_measures(
    cards: Sequence[Card], problem: Problem, names: Set[str], *, has_lora: bool
) -> Exact:
    """Return what works out measures of Configs that were not tried, by name.

    They are those of models fitted to all examples. Sizes take a moment, and come only
    if they are among the names that matter. They are left out, to be learnt from
    trials, where a Config may have LoRA layers and those of a backbone are not known.
    """
    by_name = {card.id: card for card in cards}

    def flops(config: Config) -> float:
        if "backbone" not in config:
            return 0.0
        return float(by_name[config.text("backbone")].flops)

    if names.isdisjoint(SIZES):
        return {"flops": flops}
    try:
        updates = {card.id: lora_numbers(card) for card in cards} if has_lora else {}
    except Exception:  # whatever it is, the trial will say it where it is recorded
        logger.debug("Sizes of LoRA layers are not known", exc_info=True)
        return {"flops": flops}

    @cache
    def numbers(config: Config) -> Numbers:
        row = method(config.text("method"))
        if "backbone" not in config:
            return row.numbers(config, 0, problem.task, problem.inputs)
        card = by_name[config.text("backbone")]
        head = row.numbers(config, card.width, problem.task, problem.inputs)
        update = 0
        if "rank" in config:
            a_rank, dora = updates[card.id][first_trained(config, card.depth)]
            is_dora = config.get("lora_variant", "lora") == "dora"
            update = int(config["rank"]) * a_rank + (dora if is_dora else 0)
        return [(card.parameters, FLOAT), *head, (update, FLOAT)]

    def parameters(config: Config) -> float:
        return float(sum(count for count, _ in numbers(config)))

    def memory_mb(config: Config) -> float:
        return sum(count * size for count, size in numbers(config)) / MEGABYTE

    return {"flops": flops, "parameters": parameters, "memory_mb": memory_mb}


def build_bare(card: Card) -> tuple[torch.nn.Module, Anatomy]:
    """Return a network without weights, which takes a moment once it was imported."""
    is_bare = card.modality == "text" and not card.config
    folder = weights.locate(card) if is_bare else None
    with torch.device("meta"):
        return build(card, folder)


def lora_numbers(card: Card) -> Updates:
    """Return the numbers of LoRA layers by first adapted block."""
    module, anatomy = build_bare(card)
    updates = []
    for cut in range(anatomy.depth):
        names = anatomy.modules_named(module, card.lora_targets, cut)
        layers = [update_numbers(module.get_submodule(name)) for name in names]
        updates.append((sum(n for n, _ in layers), sum(n for _, n in layers)))
    return updates
