"""The hinge: examples and a budget in, a Result out."""

from fewshot_automl.automl.classifier import FewShotClassifier
from fewshot_automl.automl.fit import fit, resume
from fewshot_automl.automl.listener import Listener, Silence
from fewshot_automl.automl.record import settings_of
from fewshot_automl.automl.result import Result
from fewshot_automl.automl.settings import Settings

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
