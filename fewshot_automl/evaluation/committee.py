"""How much say each of several models gets in a committee, and what choosing costs.

Of models of one kind (the heads on one backbone are near copies) only the best joins.
Their weights are those of a mixture: how often each was the one to be believed, over
the examples it has not learnt from. All that is needed of a model is its evidence, the
log-likelihood of each true answer under its out-of-fold outputs.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Float64

from fewshot_automl.evaluation.resampling import (
    AnyStack,
    Stacks,
    Weights,
    as_repeats,
    bootstrap_weights,
    default_draws,
    is_predicted,
    scorer,
)
from fewshot_automl.tasks import Metric

Evidence = Float[np.ndarray, "models examples"]
Picked = Bool[np.ndarray, "draws models"]
Say = Float64[np.ndarray, "draws models"]

ROUNDS: Final = 100
"""Of expectation and maximisation; the prior makes them settle sooner."""
MOST_DRAWS: Final = 400
"""Bootstrap draws in each of which a committee is chosen."""
NUMBERS: Final = 40_000_000
"""Outputs that are averaged in all draws together, but for 40 draws: some seconds."""


def committee_weights(
    evidence: Evidence,
    kinds: Sequence[Hashable],
    *,
    most: int,
    counts: Weights | None = None,
) -> Say:
    """Return the weight of each model in a committee of at most so many, by draw.

    One of each kind may join; one member alone is the one of most evidence, which is
    NaN where a model has not predicted an example. `counts` are how often each example
    counts in each of several draws; once in one if left out.

    >>> evidence = np.log([[0.9, 0.9, 0.9, 0.2], [0.2, 0.3, 0.2, 0.9], [0.8] * 4])
    >>> committee_weights(evidence, "aba", most=2).round(2).tolist()
    [[0.0, 0.26, 0.74]]
    """
    if counts is None:
        counts = np.ones((1, evidence.shape[1]))
    if most == 1:
        kinds = [None] * len(kinds)  # the best of all is all
    is_known = ~np.isnan(evidence).all(axis=0)
    evidence, counts = evidence[:, is_known], counts[:, is_known]
    picked = _best_of_each(evidence, kinds, counts)
    weights = _mixture(evidence, picked, counts)
    if most < picked.sum(axis=1).max():
        places = np.argsort(np.argsort(-weights, axis=1, kind="stable"), axis=1)
        weights = _mixture(evidence, picked & (places < most), counts)
    return weights


def average(
    outputs: Float[np.ndarray, "models repeats examples width"],
    weights: Float[np.ndarray, " models"],
) -> Float[np.ndarray, "repeats examples width"]:
    """Return the weighted mean; NaN for examples that some model has not predicted.

    Without that model the mean would be another committee's.
    """
    return np.asarray(np.tensordot(weights / weights.sum(), outputs, axes=1))


def stacked(outputs: Stacks) -> Float[np.ndarray, "models repeats examples width"]:
    """Return outputs of several models in one array, NaN in repeats that some lack."""
    every = [as_repeats(each) for each in outputs]
    shape = (len(every), max(map(len, every)), *every[0].shape[1:])
    table = np.full(shape, np.nan)
    for row, each in zip(table, every, strict=True):
        row[: len(each)] = each
    return table


def choosing_gaps(
    targets: np.ndarray,
    outputs: Callable[[int], AnyStack],
    metric: Metric,
    evidence: Evidence,
    kinds: Sequence[Hashable],
    *,
    most: int,
    seed: int = 0,
) -> Float64[np.ndarray, " draws"]:
    """Return how much too good the committee's score is, in each bootstrap draw.

    In each a committee is chosen and weighted by the examples drawn. On those left out
    the committee of all examples, which knows them, is ahead by what knowing is worth.
    `outputs` are asked for by the place of a model.
    """
    first = outputs(0)
    draws = min(default_draws(metric, [first]), MOST_DRAWS)
    draws = min(draws, max(NUMBERS // first.size, 40))
    counts = bootstrap_weights(len(targets), draws, np.random.default_rng(seed))
    chosen = committee_weights(evidence, kinds, most=most)
    others = committee_weights(evidence, kinds, most=most, counts=counts)
    used = np.flatnonzero((np.concatenate([chosen, others]) > 0).any(axis=0))
    if len(used) == 1:
        return np.zeros(1)  # there was nothing to choose
    table = stacked([outputs(int(model)) for model in used])
    left_out = (counts == 0).astype(np.float64)

    def mean(weights: np.ndarray) -> np.ndarray:
        has_say = weights > 0
        return average(table[has_say], weights[has_say])

    def score(outputs: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return scorer(metric, targets, [outputs])(rows)[:, 0]

    model = mean(chosen[0, used])
    left_out *= is_predicted(model).any(axis=0)
    pairs = zip(others[:, used], left_out, strict=True)
    own = np.array([score(mean(weights), rows[None])[0] for weights, rows in pairs])
    return np.asarray(score(model, left_out) - own)


def _best_of_each(
    evidence: Evidence, kinds: Sequence[Hashable], counts: Weights
) -> Picked:
    """Return which models are, in each draw, the best of their kind.

    A model that predicted few examples is compared with the others on these.
    """
    there = ~np.isnan(evidence)
    lead = np.where(there, evidence - np.nanmean(evidence, axis=0), 0.0)
    held = counts @ there.T
    means = np.divide(
        counts @ lead.T, held, out=np.full(held.shape, -np.inf), where=held > 0
    )
    picked = np.zeros(means.shape, dtype=bool)
    for kind in dict.fromkeys(kinds):
        alike = np.flatnonzero([one == kind for one in kinds])
        best = alike[means[:, alike].argmax(axis=1)]
        picked[np.arange(len(means)), best] = True
    return picked


def _mixture(evidence: Evidence, picked: Picked, counts: Weights) -> Say:
    """Return the weights under which the mixture makes the examples most probable.

    Beforehand the members share the square root of the number of examples evenly, which
    pulls to equal weights and loses its say as examples come in. An example that a
    member has not predicted changes nothing in its weight.

    Source:
        Dempster, Laird and Rubin, J. Royal Stat. Soc. B 39, 1977, section 4.3 (the
        weights of a finite mixture); the strength of the Dirichlet prior is ours.
    """
    there = ~np.isnan(evidence)
    best = np.nanmax(evidence, axis=0)
    likelihood = np.exp(np.where(there, evidence, -np.inf) - best)
    absent = counts @ (~there).T
    members = picked.sum(axis=1, keepdims=True)
    prior = picked * np.sqrt(counts.sum(axis=1, keepdims=True)) / members
    weights: np.ndarray = picked / members
    for _ in range(ROUNDS):
        held, seen = weights @ there, weights @ likelihood
        trust = np.zeros(seen.shape)
        np.divide(counts * held, seen, out=trust, where=seen > 0)
        weights = weights * (trust @ likelihood.T + absent) + prior
        weights /= weights.sum(axis=1, keepdims=True)
    return weights
