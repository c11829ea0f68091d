"""Sets of classes that hold the true one as often as promised, by crepes."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float, Int

from fewshot_automl.errors import UserError

CONFORMAL: Final = "conformal"
"""Where a model's facts hold what `fit_sets` returned."""


def fit_sets(
    labels: Int[np.ndarray, " examples"],
    proba: Float[np.ndarray, "repeats examples classes"],
) -> dict[str, list[Any]]:
    """Return how improbable out-of-fold outputs made each true class, as plain values.

    Examples that no fold predicted are left out.
    """
    there = np.isfinite(proba).all(axis=2)
    known = there.any(axis=0)
    shares = np.where(there, proba[:, np.arange(len(labels)), labels], 0.0)
    missed = 1 - shares.sum(axis=0)[known] / there.sum(axis=0)[known]
    return {"scores": missed.round(6).tolist(), "labels": labels[known].tolist()}


def class_sets(
    fitted: Mapping[str, Sequence[Any]],
    proba: Float[np.ndarray, "examples classes"],
    alpha: float,
    *,
    by_class: bool = False,
) -> Bool[np.ndarray, "examples classes"]:
    """Return which classes belong to each example's set.

    The true class is in it in at least `1 - alpha` of all examples, of any one class
    too with `by_class`, if new examples are drawn as the labelled ones were. A class
    of fewer than `1 / alpha - 1` examples then is in every set.

    Source:
        Vovk, Annals of Mathematics and AI 74, 2015 (cross-conformal predictors, which
        in the worst case miss twice as often); by class: Vovk, ACML 2012 (Mondrian).
    """
    if not 0 < alpha < 1:
        raise UserError(f"alpha must be above 0 and below 1, got {alpha}. Use 0.1.")
    from crepes import ConformalClassifier

    labels, known = np.array(fitted["labels"]), ~np.isnan(proba).any(axis=1)
    rule = ConformalClassifier()
    rule.fit(np.array(fitted["scores"]), bins=labels if by_class else None, seed=0)
    sets = np.ones(proba.shape, dtype=bool)
    for column in range(proba.shape[1]) if known.any() else ():
        if by_class and column not in labels:
            continue
        some = np.full(int(known.sum()), column) if by_class else None
        held = rule.predict_set(
            1 - proba[known][:, [column]],
            bins=some,
            confidence=1 - alpha,
            smoothing=False,
            seed=0,
        )
        sets[known, column] = held[:, 0].astype(bool)
    return sets
