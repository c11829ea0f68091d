"""Which trials of a history are the best ones, luck set aside."""

import logging
from collections.abc import Mapping

import numpy as np

from fewshot_automl.oracle.aims import PLAIN, SCORE, Aims, measured
from fewshot_automl.oracle.prior import Prior
from fewshot_automl.oracle.scores import done_scores, filled, shrunken
from fewshot_automl.outcome import History
from fewshot_automl.space import Space

logger = logging.getLogger(__name__)

LEAST_FOR_MODEL = 6
"""Done trials below which a Gaussian process is more guess than evidence."""
MOST_LUCK = 2.0
"""Standard errors that a score may have been below its Config's worth."""
FIT_STEPS = 50
"""Most optimiser steps of the fit."""


def posterior_means(
    space: Space,
    history: History,
    seed: int,
    prior: Prior | None = None,
    aims: Aims = PLAIN,
    *,
    regularise: bool = True,
) -> dict[int, float]:
    """Return for each done trial, by its place in the history, its score without luck.

    The incumbent is the one with the highest. With enough trials that `space` can
    encode, that is the posterior mean of the Gaussian process, which sets a score
    beside those of similar Configs and weighs it by its standard error. Below that,
    and for trials that cannot be encoded, scores are shrunk towards their common mean
    by as much as their noise explains.

    Args:
        space: Where the Configs live.
        history: Trials so far; only done ones count.
        seed: Makes the fit repeatable; not negative.
        prior: What past studies advise; what they know counts here too.
        aims: Those of the search; a Config that breaks a limit exactly known, or a
            measured one, is left out.
        regularise: Whether scores are regularised first.
    """
    scores = done_scores(history, regularise=regularise)
    if not scores:
        return {}
    numbers = np.array(list(scores.values()), dtype=np.float64)
    raw = np.array([history[i][1].mean for i in scores])
    errors = filled(numbers[:, 1])
    means = dict(zip(scores, shrunken(*numbers.T).tolist(), strict=True))
    means |= _modelled(SCORE, space, history, seed, prior, aims, regularise)
    # A trial that went wrong in some folds has a large standard error, and would be
    # taken for one that says nothing.
    usual = np.maximum(errors, float(np.median(errors)))
    limit = raw + (MOST_LUCK * usual if usual.any() else np.inf)
    highest = dict(zip(scores, limit.tolist(), strict=True))
    return {
        i: min(mean, highest[i])
        for i, mean in means.items()
        if all(one.allows(measured(one.name, history[i][1])) for one in aims.limits)
    }


def pareto_front(
    space: Space,
    history: History,
    aims: Aims,
    seed: int,
    prior: Prior | None = None,
    *,
    scores: Mapping[int, float] | None = None,
    regularise: bool = True,
) -> list[int]:
    """Return where in the history the trials of the Pareto front stand.

    Trials are compared by posterior means, and by what was measured where a Config
    fixes it. Those on the front keep all limits, by what was measured and by posterior
    means, and no other such trial is as good in every objective and better in one.

    Args:
        space: Where the Configs live.
        history: Trials so far; only done ones that measured all that is needed count.
        aims: Objectives and limits.
        seed: Makes fits repeatable; not negative.
        prior: What past studies advise.
        scores: Scores without luck, by place, where they are known already.
        regularise: Whether scores are regularised first.

    Returns:
        Indices, the best by the first objective first.
    """
    values: dict[str, Mapping[int, float]] = {}
    for name in aims.names:
        if name == SCORE:
            values[name] = scores or posterior_means(
                space, history, seed, prior, aims, regularise=regularise
            )
            continue
        raw = {i: measured(name, outcome) for i, (_, outcome) in enumerate(history)}
        values[name] = {i: v for i, v in raw.items() if np.isfinite(v)}
        if name not in aims.exact:
            values[name] |= _modelled(
                name, space, history, seed, prior, aims, regularise
            )
    known = [
        i
        for i in range(len(history))
        if all(i in values[name] for name in aims.names)
        and all(
            limit.allows(measured(limit.name, history[i][1]))
            and limit.allows(values[limit.name][i])
            for limit in aims.limits
        )
    ]
    table = np.array(
        [
            [
                values[one.name][i] * (1 if one.maximise else -1)
                for one in aims.objectives
            ]
            for i in known
        ]
    ).reshape(len(known), -1)
    as_good = (table[None] >= table[:, None]).all(-1)
    better = (table[None] > table[:, None]).any(-1)
    on_front = np.flatnonzero(~(as_good & better).any(axis=1)).tolist()
    return [known[k] for k in sorted(on_front, key=lambda k: (-table[k, 0], known[k]))]


def _modelled(
    name: str,
    space: Space,
    history: History,
    seed: int,
    prior: Prior | None,
    aims: Aims,
    regularise: bool,
) -> dict[int, float]:
    """Return posterior means by place; nothing where no process can be fitted."""
    if sum(np.isfinite(measured(name, o)) for _, o in history) < LEAST_FOR_MODEL:
        return {}
    # Only here: the libraries take some seconds to import.
    from fewshot_automl.oracle.model import FIT_FAILURES, Rows, calm, fit

    try:
        with calm(seed):
            rows = Rows.of(space, history, prior or Prior(), PLAIN)
            found = fit(
                name, rows, history, aims, regularise=regularise, steps=FIT_STEPS
            )
            if found is None or len(found.places) < LEAST_FOR_MODEL:
                return {}
            means = found.means([history[i][0] for i in found.places])
    except FIT_FAILURES as error:
        logger.warning(
            "Measured %s instead of posterior means: no Gaussian process could be "
            "fitted to %d trials (%s: %s)",
            name,
            len(history),
            type(error).__name__,
            error,
        )
        return {}
    return dict(zip(found.places, means.tolist(), strict=True))
