"""How likely a Config is to finish, judged by its failed neighbours."""

import numpy as np
from jaxtyping import Float64

from fewshot_automl.oracle.encoding import Layout, dissimilarity

BANDWIDTH = 0.2
"""Root mean squared difference at which a neighbour's weight falls to 0.6."""


def success_probability(
    layout: Layout,
    rows: Float64[np.ndarray, "rows columns"],
    finished: Float64[np.ndarray, "finished columns"],
    failed: Float64[np.ndarray, "failed columns"],
) -> Float64[np.ndarray, " rows"]:
    """Return an estimate of the probability that a trial would finish.

    It is a kernel-smoothed count with one imagined success everywhere:
    `(1 + successes nearby) / (1 + trials nearby)`. So a failure lowers its
    neighbourhood to a half, another to a third, successes raise it again, and far
    from any failure it stays near 1. A failure is never a score.

    Args:
        layout: What the columns mean.
        rows: Encoded Configs to judge.
        finished: Encoded Configs of done trials.
        failed: Encoded Configs of failed trials.
    """
    if not len(failed):
        return np.ones(len(rows))
    good, bad = (
        np.exp(-dissimilarity(layout, rows, others) / (2 * BANDWIDTH**2)).sum(axis=1)
        for others in (finished, failed)
    )
    return np.asarray((1 + good) / (1 + good + bad), dtype=np.float64)
