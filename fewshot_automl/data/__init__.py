"""Reads any source of examples, infers the task they pose, and audits them."""

from fewshot_automl.data.audit import Audit, audit
from fewshot_automl.data.examples import Columns, Dataset, Examples
from fewshot_automl.data.reading import (
    LABEL,
    read,
    read_beside,
    read_inputs,
    read_like,
    read_more,
)
from fewshot_automl.data.sources import Source

__all__ = [
    "LABEL",
    "Audit",
    "Columns",
    "Dataset",
    "Examples",
    "Source",
    "audit",
    "read",
    "read_beside",
    "read_inputs",
    "read_like",
    "read_more",
]
