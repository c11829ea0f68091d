"""Ways to adapt a backbone: what is trainable, and which head stands on it."""

import sys
from collections.abc import Iterable
from typing import Final

NAMES: Final = (
    *("majority", "tfidf", "prototype", "probe", "contrastive", "contrastive_lora"),
    *("partial_freeze", "lora", "full"),
)
"""Of the rows of `table.METHODS`, for those who cannot wait for torch."""


def method_names() -> Iterable[str]:
    """Return the names of all methods: of the rows, where they are imported."""
    table = sys.modules.get(f"{__name__}.table")
    return NAMES if table is None else tuple(table.METHODS)
