"""The methods, one row each; everything else is derived from this table."""

from pathlib import Path
from typing import Any, Final

from fewshot_automl.adaptation.baseline import Majority, Tfidf
from fewshot_automl.adaptation.blend import Blend
from fewshot_automl.adaptation.leaves import load_leaf, save_leaf
from fewshot_automl.adaptation.method import Fitted, Method
from fewshot_automl.adaptation.probe import Probe
from fewshot_automl.adaptation.prototype import Prototype
from fewshot_automl.adaptation.tuned import Tuned
from fewshot_automl.errors import unknown_name

_ROWS: Final[tuple[Method, ...]] = (
    Majority(),
    Tfidf(),
    Prototype(),
    Probe(),
    Tuned(name="contrastive", part="blocks", loss="contrastive"),
    Tuned(name="contrastive_lora", part="lora", loss="contrastive"),
    Tuned(name="partial_freeze", part="blocks", loss="cross_entropy"),
    Tuned(name="lora", part="lora", loss="cross_entropy"),
    Tuned(name="full", part="everything", loss="cross_entropy"),
)
METHODS: Final[dict[str, Method]] = {row.name: row for row in _ROWS}

BLEND: Final = "blend"


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
    if isinstance(fitted, Blend):
        return {"kind": BLEND, **fitted.save(folder)}
    return save_leaf(fitted, folder)


def load_fitted(folder: Path, state: dict[str, Any]) -> Fitted:
    """Return the model that `save_fitted` wrote.

    Raises:
        ExportError: If it was written by a version that knows more kinds.
    """
    if state["kind"] == BLEND:
        return Blend.load(folder, state)
    return load_leaf(folder, state)
