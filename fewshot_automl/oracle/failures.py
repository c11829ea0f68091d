"""How likely a Config is to finish, judged by what failed and what did not."""

import numpy as np
from jaxtyping import Float64

from fewshot_automl.oracle.encoding import Layout

TREES = 64
"""Of the forest."""
LEAST_CHANCE = 0.8
"""Of success, below which a Config is not suggested while there are others."""
LEAST_SHARE = 0.05
"""Of the candidates, that stay in any case: the likeliest to finish."""

Rows = Float64[np.ndarray, "rows columns"]


def success_chances(
    layout: Layout, rows: Rows, finished: Rows, failed: Rows, seed: int
) -> Float64[np.ndarray, " rows"]:
    """Return an estimate of the probability that a trial would finish.

    Failures have causes of a few dimensions: an option, an edge beyond which all
    fails, a corner of two. Randomised trees try out such rules: each draws thresholds
    at random between what failed and what finished, and goes on beyond the farthest
    failure. Where few trials are known the trees disagree, and the chance is middling.

    Args:
        layout: What the columns mean.
        rows: Encoded Configs to judge.
        finished: Encoded Configs of done trials.
        failed: Encoded Configs of failed trials.
        seed: Of the trees.

    Source:
        Geurts et al., Extremely randomized trees, Machine Learning 2006.
    """
    if not len(failed) or not len(rows):
        return np.ones(len(rows))
    if not len(finished):
        return np.full(len(rows), 0.5)
    from sklearn.ensemble import ExtraTreesClassifier  # takes a second

    forest = ExtraTreesClassifier(TREES, max_features=None, random_state=seed)
    known = np.vstack([finished, failed])
    is_done = np.arange(len(known)) < len(finished)
    forest.fit(_separated(layout, known), is_done)
    chances = forest.predict_proba(_separated(layout, rows))[:, 1]
    return np.asarray(chances, dtype=np.float64)


def log_chances(
    chances: Float64[np.ndarray, " rows"],
) -> Float64[np.ndarray, " rows"]:
    """Return what is added to a log improvement: minus infinity cuts a Config off.

    >>> log_chances(np.array([1.0, 0.9, 0.2])).round(2).tolist()
    [0.0, -0.11, -inf]
    """
    if not len(chances):
        return chances
    bar = min(LEAST_CHANCE, float(np.quantile(chances, 1 - LEAST_SHARE)))
    logs = np.log(np.maximum(chances, 1e-3))
    return np.asarray(np.where(chances >= bar, logs, -np.inf))


def _separated(layout: Layout, rows: Rows) -> Rows:
    """Return rows with one column for each option, so that one split names it."""
    first = len(layout.continuous)
    columns = [rows[:, :first]]
    for place, count in enumerate(layout.options):
        columns.append(rows[:, first + place, None] == np.arange(count))
    return np.hstack(columns)
