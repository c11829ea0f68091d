"""The hinge: examples and a budget in, a Result out."""

from typing import TYPE_CHECKING, Any

from fewshot_automl.automl.fit import fit, resume
from fewshot_automl.automl.listener import Listener, Silence
from fewshot_automl.automl.record import settings_of
from fewshot_automl.automl.result import Result
from fewshot_automl.automl.settings import Settings

if TYPE_CHECKING:
    from fewshot_automl.automl.classifier import FewShotClassifier

__all__ = [
    "FewShotClassifier",
    "Listener",
    "Result",
    "Settings",
    "Silence",
    "fit",
    "resume",
    "settings_of",
]


def __getattr__(name: str) -> Any:
    """Import the classifier, and scikit-learn with it, when it is first asked for."""
    if name != "FewShotClassifier":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fewshot_automl.automl.classifier import FewShotClassifier

    return FewShotClassifier
