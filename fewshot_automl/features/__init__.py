"""Keeps frozen activations so that no example passes the same frozen block twice."""

from fewshot_automl.features.shard import Row
from fewshot_automl.features.store import FeatureStore, StoreSettings, StoreStats

__all__ = ["FeatureStore", "Row", "StoreSettings", "StoreStats"]
