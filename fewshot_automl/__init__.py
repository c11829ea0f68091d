"""Turns a few labelled examples into the best model they can buy, scored honestly.

>>> import fewshot_automl
>>> sorted(fewshot_automl.__all__)[:3]
['Budget', 'Card', 'Choice']

Names are imported when they are first used, so that ``import fewshot_automl`` is
quick and brings in neither torch nor scikit-learn.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from fewshot_automl.automl.check import check
    from fewshot_automl.automl.classifier import FewShotClassifier
    from fewshot_automl.automl.explain import explain
    from fewshot_automl.automl.fit import fit, resume
    from fewshot_automl.automl.repair import repair
    from fewshot_automl.automl.result import Listener, Result, Score
    from fewshot_automl.automl.retarget import retarget
    from fewshot_automl.automl.settings import Settings
    from fewshot_automl.automl.slices import slices
    from fewshot_automl.automl.update import update
    from fewshot_automl.backbones.card import Card
    from fewshot_automl.backbones.zoo import Zoo
    from fewshot_automl.errors import FewShotError, RunError, UserError
    from fewshot_automl.outcome import Outcome
    from fewshot_automl.predictor import Predictor
    from fewshot_automl.space import Choice, Config, Float, Int, Space, When
    from fewshot_automl.study import Budget
    from fewshot_automl.tasks import Task

    __version__: str

__all__ = [
    "Budget",
    "Card",
    "Choice",
    "Config",
    "FewShotClassifier",
    "FewShotError",
    "Float",
    "Int",
    "Listener",
    "Outcome",
    "Predictor",
    "Result",
    "RunError",
    "Score",
    "Settings",
    "Space",
    "Task",
    "UserError",
    "When",
    "Zoo",
    "check",
    "explain",
    "fit",
    "repair",
    "resume",
    "retarget",
    "slices",
    "update",
]

_HOMES: Final = {
    "Budget": "study",
    "Card": "backbones.card",
    "Choice": "space",
    "Config": "space",
    "FewShotClassifier": "automl.classifier",
    "FewShotError": "errors",
    "Float": "space",
    "Int": "space",
    "Listener": "automl.result",
    "Outcome": "outcome",
    "Predictor": "predictor",
    "Result": "automl.result",
    "RunError": "errors",
    "Score": "automl.result",
    "Settings": "automl.settings",
    "Space": "space",
    "Task": "tasks",
    "UserError": "errors",
    "When": "space",
    "Zoo": "backbones.zoo",
    "check": "automl.check",
    "explain": "automl.explain",
    "fit": "automl.fit",
    "repair": "automl.repair",
    "resume": "automl.fit",
    "retarget": "automl.retarget",
    "slices": "automl.slices",
    "update": "automl.update",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name == "__version__":
        value = import_module("importlib.metadata").version("fewshot-automl")
    elif name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, the lazy ones too."""
    return sorted({*globals(), *__all__})
