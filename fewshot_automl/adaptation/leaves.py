"""Fitted models that stand alone, written to a folder and read again by their kind."""

from pathlib import Path
from typing import Any, Final

from fewshot_automl.adaptation.encodings import Encoder
from fewshot_automl.adaptation.fitted import Adapted
from fewshot_automl.adaptation.majority import Constant
from fewshot_automl.adaptation.method import Fitted
from fewshot_automl.adaptation.tfidf import TermHead
from fewshot_automl.errors import ExportError
from fewshot_automl.features.store import FeatureStore, StoreSettings

LEAVES: Final[dict[str, type[Fitted]]] = {
    "adapted": Adapted,
    "constant": Constant,
    "terms": TermHead,
}


def save_leaf(fitted: Fitted, folder: Path) -> dict[str, Any]:
    """Write a fitted model into a folder; return the JSON that `load_leaf` needs."""
    kind = next(kind for kind, made in LEAVES.items() if type(fitted) is made)
    return {"kind": kind, **fitted.save(folder)}


def load_leaf(folder: Path, state: dict[str, Any]) -> Fitted:
    """Return the model that `save_leaf` wrote.

    Raises:
        ExportError: If it was written by a version that knows more kinds.
    """
    if state["kind"] not in LEAVES:
        raise ExportError(
            f"Kind of model must be one of {', '.join(LEAVES)}, got "
            f"{state['kind']!r}. Update fewshot_automl."
        )
    return LEAVES[state["kind"]].load(folder, state)


def own_encoder(fitted: Fitted) -> Encoder | None:
    """Return the encoder of a loaded model's own backbone; None if it needs none.

    It keeps nothing: a model in service must not grow with what it is shown.
    """
    if not isinstance(fitted, Adapted):
        return None
    store = FeatureStore(None, StoreSettings(max_memory_bytes=0))
    return Encoder(backbone=fitted.backbone, store=store, device=fitted.device)
