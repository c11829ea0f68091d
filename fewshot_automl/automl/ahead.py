"""What is imported in the background, before somebody waits for it."""

import logging
from collections.abc import Callable
from functools import partial
from importlib import import_module
from threading import Thread
from typing import Final

logger = logging.getLogger(__name__)

MODELS: Final = "fewshot_automl.automl.finish"
"""Imports what a study needs before it is made ready."""
TERMS: Final = "sklearn.feature_extraction.text"
"""Imports what the first baseline needs."""
ORACLE: Final = "fewshot_automl.oracle.model"
"""Imports what the oracle needs after rung 0."""


def start(*work: Callable[[], object]) -> Thread:
    """Do some work in the background, piece by piece; whoever needs it does the rest.

    What fails is done again by who needs it, and fails where that is told.
    """

    def go() -> None:
        for piece in work:
            try:
                piece()
            except Exception:
                logger.debug("Not done ahead: %s", piece, exc_info=True)

    thread = Thread(target=go, daemon=True)
    thread.start()
    return thread


def importing(name: str) -> Callable[[], object]:
    """Return the work of importing a module."""
    return partial(import_module, name)
