"""The methods, one row each; everything else is derived from this table."""

from typing import Final

from fewshot_automl.adaptation.baselines import Majority, Tfidf
from fewshot_automl.adaptation.frozen import Probe, Prototype
from fewshot_automl.adaptation.method import Method
from fewshot_automl.adaptation.trained import (
    CONTRASTIVE,
    CONTRASTIVE_LORA,
    FULL,
    LORA,
    PARTIAL_FREEZE,
)
from fewshot_automl.errors import unknown_name

_ROWS: Final[tuple[Method, ...]] = (
    Majority(),
    Tfidf(),
    Prototype(),
    Probe(),
    CONTRASTIVE,
    CONTRASTIVE_LORA,
    PARTIAL_FREEZE,
    LORA,
    FULL,
)
METHODS: Final[dict[str, Method]] = {row.name: row for row in _ROWS}


def method(name: str) -> Method:
    """Return the method of that name."""
    if name not in METHODS:
        raise unknown_name("method", name, METHODS, "fewshot space DATA")
    return METHODS[name]
