"""Trials that have only looked at their first folds, and how to compare them.

All trials are scored on the same folds, some of which are harder than others. A trial
of the first fold alone is therefore not compared as it is: the effect of that fold is
taken off, as far as trials of all folds have shown it.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from jaxtyping import Bool, Float64

from fewshot_automl.oracle.oracle import History
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config

HOPELESS: Final = 0.05
"""Probability of being better than the best, below which folds are not bought."""
PRIOR_FOLDS: Final = 4.0
"""Degrees of freedom that standard errors are worth as a guess of the folds' noise."""
CALM: Final = 9.0
"""Times the median variance between folds, above which a trial has gone astray and
says nothing about the folds."""
MOST_SCORE: Final = 1e150
"""Scores and errors beyond this have no square; folds with them are not compared."""


def latest(history: History) -> list[int]:
    """Return where in a history the entries stand that later ones have not replaced.

    A trial with folds left is replaced by a later one of the same Config that was
    done or has failed; one that was stopped, or still runs, leaves it standing.

    >>> from fewshot_automl.outcome import Outcome
    >>> config = Config.of({"method": "lora"})
    >>> first = Outcome(status="done", scores=(0.5,), mean=0.5, folds_left=2)
    >>> whole = Outcome(status="done", scores=(0.5, 0.6, 0.7), mean=0.6)
    >>> latest([(config, first), (config, whole)])
    [1]
    """
    kept: list[int] = []
    ended: set[Config] = set()
    for i in reversed(range(len(history))):
        config, outcome = history[i]
        if outcome.folds_left and config in ended:
            continue
        kept.append(i)
        if outcome.status in ("done", "failed"):
            ended.add(config)
    return kept[::-1]


def resumable(history: History) -> list[Config]:
    """Return the Configs whose next trial would run the folds that are left.

    >>> from fewshot_automl.outcome import Outcome
    >>> config = Config.of({"method": "lora"})
    >>> first = Outcome(status="done", scores=(0.5,), mean=0.5, folds_left=2)
    >>> resumable([(config, first)]) == [config]
    True
    >>> resumable([(config, first), (config, Outcome(status="running"))])
    []
    """
    last = dict(history)
    return [config for config, outcome in last.items() if outcome.folds_left]


def is_hopeless(
    gains: Float64[np.ndarray, " configs"], deviations: Float64[np.ndarray, " configs"]
) -> Bool[np.ndarray, " configs"]:
    """Return which Configs are too unlikely to be the best for more folds.

    Args:
        gains: Posterior means of what each scores above the best.
        deviations: Posterior standard deviations of the same difference.

    >>> is_hopeless(np.array([-0.1, -0.1, 0.0]), np.array([0.05, 0.1, 0.0])).tolist()
    [True, False, False]
    """
    return np.asarray(gains + NormalDist().inv_cdf(1 - HOPELESS) * deviations < 0)


def fold_adjusted(
    history: History, indices: Sequence[int]
) -> tuple[Float64[np.ndarray, " trials"], Float64[np.ndarray, " trials"]]:
    """Return the mean scores of trials, as if all folds were run, and their variances.

    A mean of some folds is corrected by how much trials of all folds scored above
    their own mean on these, shrunk towards no effect while they are few. Variances
    are squared standard errors, and what is not known of the folds' effects. A trial
    that does not tell the scores of its folds, and one in a history without any trial
    of all folds, stands as it is.

    Args:
        history: All trials; those that were replaced teach nothing.
        indices: Where the trials that are wanted stand in it; they are done.

    Returns:
        Means and variances; a variance is NaN where nothing is known of it.

    Source:
        Efron and Morris, JASA 1973, for the shrinkage.

    >>> whole = Outcome(status="done", scores=(0.9, 0.7), mean=0.8, standard_error=0.05)
    >>> look = Outcome(status="done", scores=(0.9,), mean=0.9, folds_left=1)
    >>> names = ("probe", "lora", "full")
    >>> configs = [Config.of({"method": name}) for name in names]
    >>> history = list(zip(configs, (whole, whole, look)))
    >>> means, _ = fold_adjusted(history, (0, 1, 2))
    >>> means.round(2).tolist()
    [0.8, 0.8, 0.81]
    """
    groups: dict[int, list[Outcome]] = defaultdict(list)
    for i in latest(history):
        outcome = history[i][1]
        if outcome.is_whole and _is_told(outcome):
            groups[len(outcome.scores)].append(outcome)
    tables = {every: _Table.of(outcomes) for every, outcomes in groups.items()}
    pairs = []
    for i in indices:
        outcome = history[i][1]
        table = tables.get(len(outcome.scores) + outcome.folds_left)
        mean, error = outcome.mean, outcome.standard_error
        variance = error * error  # ** would overflow
        if table is not None and outcome.folds_left and _is_told(outcome):
            run = len(outcome.scores)
            mean -= float(table.effects[:run].mean())
            variance += table.doubt / run
        pairs.append((mean, variance))
    means, variances = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return means, variances


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """What whole trials have shown of the folds that all of them ran."""

    effects: Float64[np.ndarray, " folds"]
    """How much more is scored on each than on all."""
    doubt: float
    """Variance of such an effect."""

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> "_Table":
        """Return what whole ones show that tell the scores of the same folds."""
        scores = np.array([outcome.scores for outcome in outcomes], dtype=np.float64)
        means = np.array([outcome.mean for outcome in outcomes], dtype=np.float64)
        spreads = scores.var(axis=1)
        usual = float(np.median(spreads)) or math.inf
        calm = spreads <= CALM * usual
        above = (scores - means[:, None])[calm]
        trials, folds = above.shape
        effects = above.mean(axis=0)
        level = effects.mean()  # a score of all folds need not be the mean of theirs
        squares = (above - effects - above.mean(axis=1, keepdims=True) + level) ** 2
        freedom = (folds - 1) * (trials - 1)
        errors = np.array([outcome.standard_error for outcome in outcomes])
        known = errors[errors < MOST_SCORE] ** 2
        noise, worth = 0.0, PRIOR_FOLDS if len(known) else 0.0
        if freedom + worth > 0:
            guess = worth * folds * float(np.median(known)) if len(known) else 0.0
            noise = (guess + float(squares.sum())) / (worth + freedom)
        doubt, spread = noise / trials, float(effects.var(ddof=1))
        kept = max(1 - doubt / spread, 0.0) if spread > 0 else 0.0
        return cls(effects=level + kept * (effects - level), doubt=kept * doubt)


def _is_told(outcome: Outcome) -> bool:
    """Return whether every fold that was run has a usable score, of several in all."""
    run = len(outcome.scores)
    is_parted = run > 0 and run + outcome.folds_left > 1
    return is_parted and all(abs(score) < MOST_SCORE for score in outcome.scores)
