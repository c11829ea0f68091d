"""How likely a Config is to finish, judged by what failed and what did not."""

import numpy as np

from fewshot_automl.oracle.encoding import Layout, Rows
from fewshot_automl.oracle.scores import Values

TREES = 64
LEAST_CHANCE = 0.9
"""Of success, below which a Config is not suggested while there are others."""
LEAST_SHARE = 0.05
"""Of the candidates, that stay in any case: the likeliest to finish."""
HOPELESS = 1e3
"""What is taken off the log improvement of others."""


def log_chances(
    layout: Layout, rows: Rows, finished: Rows, failed: Rows, seed: int
) -> Values:
    """Return the log probability that each trial finishes, very low if that is small.

    Failures have causes of a few dimensions: an option, an edge beyond which all
    fails, a corner of two. Randomised trees try out such rules: each draws thresholds
    between what failed and what finished, and goes on beyond the farthest failure.
    Where few trials are known the trees disagree, and the chance is middling.

    Source:
        Geurts et al., Extremely randomized trees, Machine Learning 2006.
    """
    if not (len(failed) and len(finished) and len(rows)):
        return np.zeros(len(rows))
    from sklearn.ensemble import ExtraTreesClassifier  # takes a second

    forest = ExtraTreesClassifier(TREES, max_features=None, random_state=seed)
    is_done = np.arange(len(finished) + len(failed)) < len(finished)
    known = np.vstack([finished, failed])
    # With a column for each option, one split names it.
    forest.fit(np.hstack(layout.separated(known)), is_done)
    chances = forest.predict_proba(np.hstack(layout.separated(rows)))[:, 1]
    bar = min(LEAST_CHANCE, float(np.quantile(chances, 1 - LEAST_SHARE)))
    logs = np.log(np.maximum(chances, 1e-3))
    return np.asarray(np.where(chances >= bar, logs, logs - HOPELESS))
