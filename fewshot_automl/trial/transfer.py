"""What cached features say of a backbone, measured beside its quick trials."""

from typing import Final

import numpy as np
from jaxtyping import Int

from fewshot_automl.evaluation.transfer import h_score, knn_score, log_me
from fewshot_automl.outcome import ADVICE_PREFIX
from fewshot_automl.space import Config
from fewshot_automl.trial.workbench import Workbench
from fewshot_automl.trial.workload import is_dear

MOST_EXAMPLES: Final = 512
"""Labelled examples that are looked at: time rises with their cube."""


def transfer_scores(bench: Workbench, config: Config, mean: float) -> dict[str, float]:
    """Return by name what a quick trial says of its backbone besides its score.

    Greater is better for all of them. They are for the oracle's advisers, not for
    people: computed from all labels at once, and from no held-out example, they are no
    estimates of accuracy. Those of the features are computed once a backbone.

    Args:
        bench: Holds the examples; their features are cached by the trial.
        config: Of the trial; dear ones, and those without a backbone, say nothing.
        mean: Its cross-validated score.
    """
    if "backbone" not in config or is_dear(config):
        return {}
    name = config.text("backbone")
    if name not in bench.transfer:
        bench.transfer[name] = _of_features(bench, config)
    scores = {**bench.transfer[name], "prior": bench.card(name).descriptors["prior"]}
    if config.get("head", "") == "logistic":
        scores["probe"] = mean
    return {f"{ADVICE_PREFIX}{key}": float(value) for key, value in scores.items()}


def _of_features(bench: Workbench, config: Config) -> dict[str, float]:
    """Return scores of the last layer's features, which the trial has cached.

    Means over layers were not worth a pass through two thirds of the backbone more. On
    eight recorded tasks the order of a pair of backbones was right, weighted by what
    it matters, by 0.82 (1 is always, 0 is by lot) with these scores and the probe's;
    0.84 with two layers of LogME and neighbours; over thirds of the depth LogME alone
    fell from 0.78 to 0.68 and the H-score from 0.68 to -0.14: early stages of networks
    differ more in width than in worth.
    """
    chosen = _chosen(bench)
    features = bench.encodings(config).take(chosen).pooled()
    labels = bench.problem.labels[chosen]
    return {
        "logme": log_me(features, labels),
        "h_score": h_score(features, labels),
        "knn": knn_score(features, labels),
    }


def _chosen(bench: Workbench) -> Int[np.ndarray, " chosen"]:
    """Return places of the examples that are looked at, drawn where they are many."""
    count = len(bench.problem.labels)
    order = np.random.default_rng(bench.seed).permutation(count)
    return np.sort(order[:MOST_EXAMPLES])
