"""What Configs fix of a model's size, worked out before they are tried."""

import logging
from collections.abc import Callable, Mapping, Sequence, Set
from functools import cache
from typing import Final

import torch

from fewshot_automl.adaptation.lora_layers import LoraLayer
from fewshot_automl.adaptation.terms import SPLITTERS, Terms
from fewshot_automl.backbones import weights
from fewshot_automl.backbones.assembly import WithoutDrawing
from fewshot_automl.backbones.card import Card
from fewshot_automl.backbones.load import build
from fewshot_automl.errors import TrialError
from fewshot_automl.space import Config
from fewshot_automl.trial.context import Problem
from fewshot_automl.trial.measures import BYTES, MEGABYTE
from fewshot_automl.trial.workload import first_trained

logger = logging.getLogger(__name__)

Exact = Mapping[str, Callable[[Config], float]]
"""Works out measures of Configs, by name."""
Numbers = list[tuple[int, int]]
"""Counts of numbers that a model holds, each with the bytes that one of them takes."""

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
        if "backbone" not in config:
            return _without_backbone(config, problem)
        card = by_name[config.text("backbone")]
        rank = int(config.get("rank", 0))
        update = 0
        if rank:
            update = rank * updates[card.id][first_trained(config, card.depth)]
        head = _head(config, card.width, problem)
        return [(card.parameters, BYTES), *head, (update, BYTES)]

    def parameters(config: Config) -> float:
        return float(sum(count for count, _ in numbers(config)))

    def memory_mb(config: Config) -> float:
        return sum(count * size for count, size in numbers(config)) / MEGABYTE

    return {"flops": flops, "parameters": parameters, "memory_mb": memory_mb}


def lora_numbers(cards: Sequence[Card]) -> dict[str, tuple[int, ...]] | None:
    """Return the numbers of LoRA layers of rank 1, by backbone and first adapted block.

    Networks are built without their weights, which takes a moment.

    Returns:
        None if one cannot be built; its trials will say why.
    """
    try:
        return {card.id: _lora_numbers(card) for card in cards}
    except Exception:  # whatever it is, the trial will say it where it is recorded
        logger.debug("Sizes of LoRA layers are not known", exc_info=True)
        return None


def _lora_numbers(card: Card) -> tuple[int, ...]:
    is_bare = card.modality == "text" and not card.config
    folder = weights.locate(card).folder if is_bare else None
    with torch.device("meta"), WithoutDrawing():
        module, anatomy = build(card, folder)
        return tuple(
            sum(
                _rank_one(module.get_submodule(name))
                for name in anatomy.modules_named(module, card.lora_targets, cut)
            )
            for cut in range(anatomy.depth)
        )


def _rank_one(layer: torch.nn.Module) -> int:
    """Return the numbers of an update of rank 1: inputs and outputs of a layer."""
    wrapped = LoraLayer(layer, 1, 1.0)
    updates = (wrapped.lora_A, wrapped.lora_B)
    return sum(p.numel() for update in updates for p in update.parameters())


def _head(config: Config, width: int, problem: Problem) -> Numbers:
    """Return the numbers of a head, in the order of its `arrays`."""
    classes, examples = problem.task.classes, len(problem.targets)
    scaling = [(1, 1), (2 * width, BYTES)]
    if "rule" in config:
        points = examples if config["rule"] == "knn" else classes
        return [*scaling, (points * (width + classes), BYTES), (2, 8)]
    if config.get("head", "") == "rbf":
        support = examples * (width + classes)
        return [*scaling, (support + classes, BYTES), (1, 8)]
    return [*scaling, (classes * (width + 1), BYTES)]


def _without_backbone(config: Config, problem: Problem) -> Numbers:
    """Return the numbers of a baseline."""
    if config["method"] != "tfidf":
        return [(problem.task.classes, 8)]
    texts = [str(text) for text in problem.inputs]
    try:
        every = [Terms.counted(texts, kind) for kind in SPLITTERS]
    except TrialError:  # it says so where it is recorded
        return []
    terms = sum(len(each.terms) for each in every)
    return [*_head(config, terms, problem), (terms, 8)]
