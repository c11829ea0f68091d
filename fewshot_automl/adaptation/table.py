"""The methods, one row each; everything else is derived from this table."""

from typing import Final

from fewshot_automl.adaptation.baselines import Majority, Tfidf
from fewshot_automl.adaptation.frozen import Probe, Prototype
from fewshot_automl.adaptation.method import Method
from fewshot_automl.adaptation.trained import TRAINED
from fewshot_automl.errors import unknown_name

METHODS: Final[dict[str, Method]] = {
    row.name: row for row in (Majority(), Tfidf(), Prototype(), Probe(), *TRAINED)
}


def method(name: str) -> Method:
    """Return the method of that name."""
    if name not in METHODS:
        raise unknown_name("method", name, METHODS, "fewshot space DATA")
    return METHODS[name]
