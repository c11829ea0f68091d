"""Ways to adapt a backbone: what is trainable, and which head stands on it."""

from typing import Final

NAMES: Final = (
    *("majority", "tfidf", "prototype", "probe", "contrastive", "contrastive_lora"),
    *("partial_freeze", "lora", "full"),
)
"""Of the rows of `table.METHODS`, for those who cannot wait for torch."""
