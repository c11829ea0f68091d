"""Drops our oracle into anyone's own Optuna study."""

from fewshot_automl.sampler.sampler import FewShotSampler

__all__ = ["FewShotSampler"]
