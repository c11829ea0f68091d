"""What Configs fix of a model's size, worked out before they are tried."""

import logging
from collections.abc import Callable, Mapping, Sequence, Set
from functools import cache
from typing import Final

import torch

from fewshot_automl.adaptation.kinds import Numbers
from fewshot_automl.adaptation.lora import update_numbers
from fewshot_automl.adaptation.table import method
from fewshot_automl.backbones import weights
from fewshot_automl.backbones.backbone import Anatomy
from fewshot_automl.backbones.card import Card
from fewshot_automl.backbones.load import build
from fewshot_automl.space import Config
from fewshot_automl.trial.context import Problem
from fewshot_automl.trial.measures import BYTES, MEGABYTE
from fewshot_automl.trial.workload import first_trained

logger = logging.getLogger(__name__)

Exact = Mapping[str, Callable[[Config], float]]
"""Works out measures of Configs, by name."""
Updates = tuple[tuple[int, int], ...]
"""For each first adapted block, the numbers of LoRA layers a rank, and DoRA's besides.
"""

SIZES: Final = frozenset({"parameters", "memory_mb"})
"""Measures that follow from the numbers a model holds."""


def exact_measures(
    cards: Sequence[Card], problem: Problem, names: Set[str], *, has_lora: bool
) -> Exact:
    """Return what works out measures of Configs that were not tried, by name.

    They are those of models fitted to all examples. Sizes are left out, to be learnt
    from trials, where the layers that LoRA adapts are not known of every backbone.

    Args:
        cards: Of the backbones searched.
        problem: Heads and terms grow with its width and examples.
        names: The measures that matter; sizes take a moment, and come only if asked.
        has_lora: Whether a Config may have LoRA layers.
    """
    by_name = {card.id: card for card in cards}

    def flops(config: Config) -> float:
        if "backbone" not in config:
            return 0.0
        return float(by_name[config.text("backbone")].flops)

    updates = lora_numbers(cards) if has_lora and not names.isdisjoint(SIZES) else {}
    if names.isdisjoint(SIZES) or updates is None:
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
        return [(card.parameters, BYTES), *head, (update, BYTES)]

    def parameters(config: Config) -> float:
        return float(sum(count for count, _ in numbers(config)))

    def memory_mb(config: Config) -> float:
        return sum(count * size for count, size in numbers(config)) / MEGABYTE

    return {"flops": flops, "parameters": parameters, "memory_mb": memory_mb}


def lora_numbers(cards: Sequence[Card]) -> dict[str, Updates] | None:
    """Return the numbers of LoRA layers, by backbone and first adapted block.

    Networks are built without their weights, which takes a moment.

    Returns:
        None if one cannot be built; its trials will say why.
    """
    try:
        return {card.id: _lora_numbers(card) for card in cards}
    except Exception:  # whatever it is, the trial will say it where it is recorded
        logger.debug("Sizes of LoRA layers are not known", exc_info=True)
        return None


def build_bare(card: Card) -> tuple[torch.nn.Module, Anatomy]:
    """Return a network without weights, which takes a moment once it was imported."""
    is_bare = card.modality == "text" and not card.config
    folder = weights.locate(card) if is_bare else None
    with torch.device("meta"):
        return build(card, folder)


def _lora_numbers(card: Card) -> Updates:
    module, anatomy = build_bare(card)
    layers = [
        [
            update_numbers(module.get_submodule(name))
            for name in anatomy.modules_named(module, card.lora_targets, cut)
        ]
        for cut in range(anatomy.depth)
    ]
    return tuple((sum(n for n, _ in each), sum(n for _, n in each)) for each in layers)
