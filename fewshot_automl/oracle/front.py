"""Which trials of a history are the best ones, by several goals and within limits."""

import logging
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from fewshot_automl.oracle.goals import FIXED, SCORE, Aims, Goal, Limit, measured
from fewshot_automl.oracle.hypervolume import nondominated
from fewshot_automl.oracle.winner import (
    FIT_STEPS,
    LEAST_FOR_SURROGATE,
    smoothed_scores,
)
from fewshot_automl.outcome import History
from fewshot_automl.space import Space

logger = logging.getLogger(__name__)


def front(
    space: Space,
    history: History,
    goals: Sequence[Goal],
    limits: Sequence[Limit],
    seed: int,
    fixed: Collection[str] = FIXED,
    scores: Mapping[int, float] | None = None,
) -> list[int]:
    """Return where in the history the trials of the Pareto front stand.

    Luck is set aside: trials are compared by posterior means of what was measured
    (see `smoothed`). Those on the front keep all limits (see `within`), and no other
    such trial is as good in every goal and better in one.

    Args:
        space: Where the Configs live.
        history: Trials so far; only done ones that measured every goal count, with
            the last one of each Config.
        goals: One or more.
        limits: None, one or more.
        seed: Makes fits repeatable; not negative.
        fixed: Names of quantities that a Config fixes, so that there is no luck.
        scores: Scores without luck, by place, where they are known; None to work
            them out.

    Returns:
        Indices, the best by the first goal first.
    """
    aims = Aims(goals=tuple(goals), limits=tuple(limits))
    values = {
        name: smoothed(name, space, history, aims, seed, fixed)
        for name in aims.names
        if name != SCORE or scores is None
    }
    if scores is not None and SCORE in aims.names:
        values[SCORE] = dict(scores)
    known = [
        i
        for i in _within(history, limits, values)
        if all(i in values[goal.name] for goal in goals)
    ]
    if not known:
        return []
    signs = [1.0 if goal.maximise else -1.0 for goal in goals]
    table = np.array(
        [
            [sign * values[g.name][i] for sign, g in zip(signs, goals, strict=True)]
            for i in known
        ]
    )
    chosen = np.flatnonzero(nondominated(table)).tolist()
    return [known[k] for k in sorted(chosen, key=lambda k: (-table[k, 0], known[k]))]


def incumbent_within(
    space: Space,
    history: History,
    limits: Sequence[Limit],
    seed: int,
    fixed: Collection[str] = FIXED,
) -> int | None:
    """Return where the best trial within the limits stands, None where there is none.

    The best has the highest score without luck; ties go to the higher raw score, then
    to the earlier trial.

    Args:
        space: Where the Configs live.
        history: Trials so far; only done ones count.
        limits: None, one or more.
        seed: Makes fits repeatable; not negative.
        fixed: Names of quantities that a Config fixes, so that there is no luck.
    """
    scores = smoothed_scores(space, history, seed)
    inside = within(space, history, limits, seed, fixed)
    return max(
        (i for i in inside if i in scores),
        key=lambda i: (scores[i], history[i][1].mean, -i),
        default=None,
    )


def within(
    space: Space,
    history: History,
    limits: Sequence[Limit],
    seed: int,
    fixed: Collection[str] = FIXED,
) -> list[int]:
    """Return where the done trials stand that keep all limits, the last of each Config.

    Both what was measured and its posterior mean must keep a limit: the former may be
    luck, and the latter may be of what other Configs did.

    Args:
        space: Where the Configs live.
        history: Trials so far; only done ones count.
        limits: None, one or more.
        seed: Makes fits repeatable; not negative.
        fixed: Names of quantities that a Config fixes, so that there is no luck.
    """
    aims = Aims(limits=tuple(limits))
    names = {limit.name for limit in limits}
    values = {name: smoothed(name, space, history, aims, seed, fixed) for name in names}
    return _within(history, limits, values)


def smoothed(
    name: str,
    space: Space,
    history: History,
    aims: Aims,
    seed: int,
    fixed: Collection[str] = FIXED,
) -> dict[int, float]:
    """Return a quantity of each trial that measured it, in its own units, without luck.

    With enough trials that is the posterior mean of a Gaussian process with noise of
    unknown size (of the logarithm, for costs). Below that, for what a Config fixes
    and for trials that `space` cannot encode, it is what was measured.

    Args:
        name: Of the quantity.
        space: Where the Configs live.
        history: Trials so far.
        aims: Whether less of it is better.
        seed: Makes the fit repeatable; not negative.
        fixed: Names of quantities that a Config fixes.
    """
    if name == SCORE:
        return smoothed_scores(space, history, seed)
    raw = {i: measured(name, outcome) for i, (_, outcome) in enumerate(history)}
    raw = {i: value for i, value in raw.items() if np.isfinite(value)}
    if name in fixed or len(raw) < LEAST_FOR_SURROGATE:
        return raw
    # Only here, to keep scipy's optimisers out of what only lists oracles.
    from fewshot_automl.oracle.linear import single_threaded
    from fewshot_automl.oracle.quantity import Quantity
    from fewshot_automl.oracle.surrogate import SurrogateError

    try:
        with single_threaded():
            quantity = Quantity.learnt(
                name, space, history, aims, steps=FIT_STEPS, seed=seed
            )
    except SurrogateError as error:
        logger.warning("Measured %s instead of posterior means: %s", name, error)
        return raw
    if quantity is None or quantity.surrogate is None:
        return raw
    evidence = quantity.surrogate.evidence
    places = [i for i in raw if evidence.encoding.knows(history[i][0])]
    rows = evidence.encode([history[i][0] for i in places])
    means = quantity.scale.natural(quantity.surrogate.process.means(rows))
    return {**raw, **dict(zip(places, means.tolist(), strict=True))}


def _within(
    history: History, limits: Sequence[Limit], values: dict[str, dict[int, float]]
) -> list[int]:
    """Return the trials that count and keep limits, both measured and without luck."""
    return [
        i
        for i in _whole(history)
        if all(
            limit.allows(measured(limit.name, history[i][1]))
            and limit.allows(values[limit.name].get(i, np.nan))
            for limit in limits
        )
    ]


def _whole(history: History) -> list[int]:
    """Return where the last done trial of each Config stands."""
    last = {c: i for i, (c, outcome) in enumerate(history) if outcome.is_done}
    return sorted(last.values())
