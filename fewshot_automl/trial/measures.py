"""What a trial measures of its model besides the score: its size and its speed."""

from typing import Final

from fewshot_automl.adaptation.deployed import (
    latency_seconds,
    middling,
    parameters_of,
    weight_bytes_of,
)
from fewshot_automl.adaptation.method import Fitted
from fewshot_automl.backbones.card import Card
from fewshot_automl.space import Config
from fewshot_automl.trial.context import TrialContext

MEGABYTE: Final = 1e6
BYTES: Final = 4
"""Of a number; weights are float32."""


def measures_of(
    context: TrialContext, config: Config, fitted: Fitted
) -> dict[str, float]:
    """Return the size and speed of a trial's model, in natural units.

    Parameters and bytes are counted. Operations are those of the card: a head is
    nothing beside a backbone, and LoRA layers are some hundredths of it. The latency
    is measured once for each backbone, with LoRA layers and without, so that trials
    which differ in nothing that takes time do not differ by noise.

    Args:
        context: Where it was fitted.
        config: As what.
        fitted: To a part of the examples: heads that keep examples will keep more.
    """
    form = config.get("backbone", config["method"]), "rank" in config
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


def size_of(fitted: Fitted) -> dict[str, float]:
    """Return what can be counted of a model."""
    return {
        "parameters": float(parameters_of(fitted)),
        "memory_mb": weight_bytes_of(fitted) / MEGABYTE,
    }


def card_measures(card: Card) -> dict[str, float]:
    """Return what a card says of every model on its backbone: no less than this."""
    return {
        "parameters": float(card.parameters),
        "flops": float(card.flops),
        "memory_mb": BYTES * card.parameters / MEGABYTE,
    }
