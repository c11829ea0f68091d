"""The methods, one row each; everything else is derived from this table."""

from pathlib import Path
from typing import Any, Final

from fewshot_automl.adaptation.ensemble import Ensemble
from fewshot_automl.adaptation.leaves import load_leaf, save_leaf
from fewshot_automl.adaptation.majority import Majority
from fewshot_automl.adaptation.method import Fitted, Method
from fewshot_automl.adaptation.probe import Probe
from fewshot_automl.adaptation.prototype import Prototype
from fewshot_automl.adaptation.tfidf import Tfidf
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

ENSEMBLE: Final = "ensemble"


def method(name: str) -> Method:
    """Return the method of that name.

    Raises:
        UnknownNameError: If there is none.
    """
    if name not in METHODS:
        raise unknown_name("method", name, METHODS, "fewshot space DATA")
    return METHODS[name]


def save_fitted(fitted: Fitted, folder: Path) -> dict[str, Any]:
    """Write a fitted model into a folder; return the JSON that `load_fitted` needs."""
    if isinstance(fitted, Ensemble):
        return {"kind": ENSEMBLE, **fitted.save(folder)}
    return save_leaf(fitted, folder)


def load_fitted(folder: Path, state: dict[str, Any]) -> Fitted:
    """Return the model that `save_fitted` wrote.

    Raises:
        ExportError: If it was written by a version that knows more kinds.
    """
    if state["kind"] == ENSEMBLE:
        return Ensemble.load(folder, state)
    return load_leaf(folder, state)
