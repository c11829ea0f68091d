"""Keeps the record of a study in an Optuna storage."""

from fewshot_automl.ledger.record import (
    INTERRUPTED,
    JSON,
    Ledger,
    read_outputs,
    write_outputs,
)

__all__ = ["INTERRUPTED", "JSON", "Ledger", "read_outputs", "write_outputs"]
