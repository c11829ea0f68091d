"""Keeps the record of a study in an Optuna storage."""

from fewshot_automl.ledger.record import INTERRUPTED, JSON, Ledger

__all__ = ["INTERRUPTED", "JSON", "Ledger"]
