"""Keeps frozen activations so that no example passes the same frozen block twice."""

from fewshot_automl.features.store import FeatureStore, Row

__all__ = ["FeatureStore", "Row"]
