"""The methods, one row each; everything else is derived from this table."""

from pathlib import Path
from typing import Any, Final

from fewshot_automl.adaptation.baseline import Frequencies, Majority, TermHead, Tfidf
from fewshot_automl.adaptation.fitted import Adapted
from fewshot_automl.adaptation.method import Fitted, Method
from fewshot_automl.adaptation.probe import Probe
from fewshot_automl.adaptation.prototype import Prototype
from fewshot_automl.adaptation.tuned import Tuned
from fewshot_automl.errors import ExportError, unknown_name

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

_FITTED: Final[dict[str, type[Fitted]]] = {
    "adapted": Adapted,
    "frequencies": Frequencies,
    "terms": TermHead,
}


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
    kind = next(kind for kind, made in _FITTED.items() if type(fitted) is made)
    return {"kind": kind, **fitted.save(folder)}


def load_fitted(folder: Path, state: dict[str, Any]) -> Fitted:
    """Return the model that `save_fitted` wrote.

    Raises:
        ExportError: If it was written by a version that knows more kinds.
    """
    if state["kind"] not in _FITTED:
        raise ExportError(
            f"Kind of model must be one of {', '.join(_FITTED)}, got "
            f"{state['kind']!r}. Update fewshot_automl."
        )
    return _FITTED[state["kind"]].load(folder, state)
