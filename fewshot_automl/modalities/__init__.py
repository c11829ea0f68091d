"""What an example is: how it is recognised, read, hashed, opened and measured."""

from fewshot_automl.modalities.content import Input, content_hash, content_hashes
from fewshot_automl.modalities.image import IMAGE_SUFFIXES, MAX_PIXELS, open_image
from fewshot_automl.modalities.modality import Look, Modality
from fewshot_automl.modalities.table import (
    MODALITIES,
    modality_named,
    register_modality,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "MODALITIES",
    "Input",
    "Look",
    "Modality",
    "content_hash",
    "content_hashes",
    "modality_named",
    "open_image",
    "register_modality",
]
