"""Measure the facts of every card again and compare them with what the card says.

Each architecture is built with random weights on torch's meta device, which holds
shapes and no numbers, so nothing is downloaded and nothing is multiplied: parameters
are counted, width and depth are the network's own, and FLOPs are those of one example
at the card's `flops_at` (two a multiply-add, attention taken apart).

Examples:
    python benchmarks/card_facts.py            # every card, about a minute
    python benchmarks/card_facts.py --quick    # one card a group of architectures
    python benchmarks/card_facts.py dinov2-small minilm-l12

The last line is one JSON object: ``{"benchmark", "figures", "falls_short"}``.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fewshot_automl.backbones.backbone import MASK, Anatomy
from fewshot_automl.backbones.card import Card
from fewshot_automl.backbones.load import LOADERS
from fewshot_automl.backbones.zoo import Zoo

FLOPS_TOLERANCE = 0.01
"""Share by which FLOPs may differ; versions of libraries split work differently."""


def _bert(width: int, depth: int, vocabulary: int = 30522) -> dict[str, Any]:
    return {
        "model_type": "bert",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": 12,
        "intermediate_size": 4 * width,
        "max_position_embeddings": 512,
    }


XLM_ROBERTA: Mapping[str, Any] = _bert(768, 12, 250002) | {
    "model_type": "xlm-roberta",
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "pad_token_id": 1,
}

MODERNBERT: Mapping[str, Any] = {
    "model_type": "modernbert",
    "vocab_size": 50368,
    "hidden_size": 768,
    "num_hidden_layers": 22,
    "num_attention_heads": 12,
    "intermediate_size": 1152,
}

DEBERTA_XSMALL: Mapping[str, Any] = {
    "model_type": "deberta-v2",
    "vocab_size": 128100,
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "intermediate_size": 1536,
    "max_position_embeddings": 512,
    "type_vocab_size": 0,
    "relative_attention": True,
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
}

PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "minilm-l12": _bert(384, 12),
    "multilingual-minilm-l12": _bert(384, 12, 250037),
    "bge-small-en": _bert(384, 12),
    "bge-base-en": _bert(768, 12),
    "e5-small": _bert(384, 12),
    "e5-base": _bert(768, 12),
    "multilingual-e5-small": _bert(384, 12, 250037),
    "multilingual-e5-base": XLM_ROBERTA,
    "xlm-roberta-base": XLM_ROBERTA,
    "gte-small": _bert(384, 12),
    "gte-base": _bert(768, 12),
    "arctic-embed-m": _bert(768, 12),
    "modernbert-base": MODERNBERT,
    "modernbert-embed": MODERNBERT,
    "gte-modernbert": MODERNBERT,
    "deberta-v3-xsmall-nli": DEBERTA_XSMALL,
}
"""Sizes that decide the facts, as each model's own config.json publishes them.

A card whose repository has a config.json leaves its own `config` empty; that file
comes with the weights and is what loading obeys. These values serve measuring only.
Counting with a pooler gives, to the last digit, the number of weights that the hub
shows for the repository.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What can be measured on a network with random weights."""

    parameters: int
    """Number of weights, without a classifier or an unused pooler."""
    width: int
    """Length of a feature vector."""
    depth: int
    """Number of blocks."""
    flops: int
    """Of one example forward."""


def _forward(module: nn.Module, anatomy: Anatomy, batch: dict[str, Tensor]) -> Tensor:
    mask = batch.get(MASK)
    hidden = anatomy.begin(module, batch)
    context = anatomy.context(module, hidden, mask)
    for index in range(anatomy.depth):
        hidden = anatomy.step(module, hidden, context, index)
    return anatomy.finish(module, hidden, mask)


def _example(card: Card) -> dict[str, Tensor]:
    if card.modality == "image":
        return {"pixels": torch.zeros(1, 3, card.flops_at, card.flops_at)}
    ids = torch.ones(1, card.flops_at, dtype=torch.long)
    return {"input_ids": ids, MASK: torch.ones_like(ids)}


def measure(card: Card) -> Facts:
    """Return the facts of a card's architecture, measured on the meta device.

    Raises:
        KeyError: If a card has no configuration and none is in `PUBLISHED`.
        CardError: If the card's architecture or configuration is not known.
    """
    if card.family == "transformers" and not card.config:
        card = replace(card, config=dict(PUBLISHED[card.id]))
    with torch.device("meta"), tempfile.TemporaryDirectory() as folder:
        module, anatomy = LOADERS[card.family](card, Path(folder))
        module.eval().requires_grad_(False)
        batch = _example(card)
        with (
            sdpa_kernel(SDPBackend.MATH),  # taken apart, so that it is counted
            FlopCounterMode(display=False) as counter,
        ):
            vectors = _forward(module, anatomy, batch)
    return Facts(
        parameters=sum(weight.numel() for weight in module.parameters()),
        width=vectors.shape[-1],
        depth=anatomy.depth,
        flops=counter.get_total_flops(),
    )


def compare(card: Card, facts: Facts) -> list[str]:
    """Return a sentence for every fact in which card and network disagree."""
    said = [
        f"{card.id}: {name} must be {found}, the card says {getattr(card, name)}"
        for name, found in (
            ("parameters", facts.parameters),
            ("width", facts.width),
            ("depth", facts.depth),
        )
        if getattr(card, name) != found
    ]
    if abs(card.flops / facts.flops - 1) > FLOPS_TOLERANCE:
        said.append(f"{card.id}: flops must be {facts.flops}, got {card.flops}")
    return said


def _chosen(ids: list[str], is_quick: bool) -> list[Card]:
    zoo = Zoo.shipped()
    if ids:
        return [zoo[id] for id in ids]
    cards = sorted(zoo, key=lambda card: card.flops)
    if not is_quick:
        return cards
    return list({card.group: card for card in reversed(cards)}.values())


def main(arguments: list[str]) -> int:
    """Print a table and the JSON line; return 1 if a card falls short."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ids", nargs="*", help="cards to measure; none: all of them")
    parser.add_argument(
        "--quick", action="store_true", help="the cheapest card of each group only"
    )
    options = parser.parse_args(arguments)
    table = Table("card", "parameters", "width", "depth", "GFLOPs", "agrees")
    figures: dict[str, Any] = {}
    falls_short: list[str] = []
    for card in _chosen(options.ids, options.quick):
        facts = measure(card)
        wrong = compare(card, facts)
        falls_short += wrong
        figures[card.id] = {
            "parameters": facts.parameters,
            "width": facts.width,
            "depth": facts.depth,
            "flops": facts.flops,
            "flops_at": card.flops_at,
        }
        table.add_row(
            card.id,
            f"{facts.parameters:,}",
            str(facts.width),
            str(facts.depth),
            f"{facts.flops / 1e9:.2f}",
            "; ".join(wrong) or "yes",
        )
    Console().print(table)
    result = {"benchmark": "card_facts", "figures": figures, "falls_short": falls_short}
    print(json.dumps(result))
    return 1 if falls_short else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
