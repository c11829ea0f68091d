"""Which trials of a history are the best ones, luck set aside."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fewshot_automl.oracle.aims import PLAIN, SCORE, Aims, measured
from fewshot_automl.oracle.scores import calm, done_scores
from fewshot_automl.outcome import History
from fewshot_automl.space import Space

if TYPE_CHECKING:
    from fewshot_automl.oracle.prior import Prior

logger = logging.getLogger(__name__)

FALLBACK = "%s (%s), so scores as they are for want of a process on %d trials"
LEAST_FOR_MODEL = 6
"""Done trials below which a Gaussian process is more guess than evidence."""
MOST_LUCK = 2.0
"""Standard errors that a score may have been below its Config's worth: a trial that
went wrong in some folds has a large one, and would be taken to say nothing."""
FIT_STEPS = 50
"""Most optimiser steps of a fit, as many as of the search."""


def posterior_means(
    space: Space,
    history: History,
    seed: int,
    prior: "Prior | None" = None,
    aims: Aims = PLAIN,
    *,
    regularise: bool = True,
) -> dict[int, float]:
    """Return for each done trial, by its place in the history, its score without luck.

    The incumbent is the one with the highest. That is the posterior mean of the
    Gaussian process, which sets a score beside those of similar Configs and weighs it
    by its standard error; and the score itself while there are few trials, and for
    those outside `space`. Trials that broke a limit of `aims` are left out.
    """
    scores = done_scores(history, regularise=regularise)
    errors = np.nan_to_num([error for _, error in scores.values()], nan=np.inf)
    usual = float(np.median(errors)) if len(errors) else 0.0
    means = {i: score for i, (score, _) in scores.items()}
    if len(means) >= LEAST_FOR_MODEL:
        with calm(seed):
            from fewshot_automl.oracle.model import FIT_FAILURES, Rows, fit

            try:
                rows = Rows(space, history, prior, PLAIN)
                # Regularised, scores hold less noise than their errors say.
                found = fit(SCORE, rows, history, PLAIN, regularise, FIT_STEPS, None)
                means |= found.means if found else {}
            except FIT_FAILURES as error:
                logger.warning(FALLBACK, type(error).__name__, error, len(history))
    most = MOST_LUCK * np.maximum(errors, usual or np.inf)
    return {
        i: min(means[i], history[i][1].mean + luck)
        for i, luck in zip(scores, most, strict=True)
        if _keeps(history, i, aims)
    }


def pareto_front(
    space: Space,
    history: History,
    aims: Aims,
    seed: int,
    prior: "Prior | None" = None,
    *,
    scores: Mapping[int, float] | None = None,
) -> list[int]:
    """Return where in the history the trials of the Pareto front stand.

    Scores are compared by posterior means (`scores`, if they are known already), and
    measures as they were measured. Trials on the front keep all limits, and no other
    such trial is as good in every objective and better in one. The best by the first
    objective comes first.
    """
    scores = scores or posterior_means(space, history, seed, prior)
    rows = {
        i: [
            (1.0 if one.maximise else -1.0)
            * (score if one.name == SCORE else measured(one.name, history[i][1]))
            for one in aims.objectives
        ]
        for i, score in scores.items()
        if _keeps(history, i, aims)
    }
    known = sorted(i for i, row in rows.items() if np.isfinite(row).all())
    table = np.array([rows[i] for i in known]).reshape(-1, len(aims.objectives))
    as_good = np.all(table[None] >= table[:, None], axis=2)
    better = np.any(table[None] > table[:, None], axis=2)
    best = np.flatnonzero(~np.any(as_good & better, axis=1)).tolist()
    return [known[k] for k in sorted(best, key=lambda k: (-table[k, 0], known[k]))]


def _keeps(history: History, place: int, aims: Aims) -> bool:
    outcome = history[place][1]
    return all(one.allows(measured(one.name, outcome)) for one in aims.limits)
