"""Reads any source of examples, infers the task they pose, and audits them."""

from fewshot_automl.data.audit import Audit, audit
from fewshot_automl.data.examples import Columns, Dataset, Examples
from fewshot_automl.data.reading import read, read_inputs, read_like
from fewshot_automl.data.sources import Source
from fewshot_automl.finding import Finding

__all__ = [
    "Audit",
    "Columns",
    "Dataset",
    "Examples",
    "Finding",
    "Source",
    "audit",
    "read",
    "read_inputs",
    "read_like",
]
