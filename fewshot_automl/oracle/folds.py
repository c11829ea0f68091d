"""Trials that have only looked at their first folds, and how to compare them.

All trials are scored on the same folds, some of which are harder than others. A trial
of the first fold alone is therefore not compared as it is: the effect of that fold is
taken off, as far as trials of all folds have shown it. What then differs from fold to
fold is noise, and says how sure a mean of one fold is, or of all.
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
"""Degrees of freedom that standard errors are worth as a guess of the noise."""
LEAST_TRIALS: Final = 3
"""Trials from which on their variances may differ by more than chance."""
CALM: Final = 9.0
"""Times the median variance between folds, above which a trial has gone astray and
says nothing about the folds."""


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
    history: History, indices: Sequence[int], folds: int | None = None
) -> tuple[Float64[np.ndarray, " trials"], Float64[np.ndarray, " trials"]]:
    """Return the mean scores of trials, as if all folds were run, and their variances.

    A mean of some folds is corrected by how much trials of all folds scored above
    their own mean on these, shrunk towards no effect while they are few. Variances
    are those of a mean over folds whose training parts overlap, without what is common
    to all trials. Before several trials of all folds were done they are the squared
    standard errors, and always for trials that do not tell the scores of their folds.

    Args:
        history: All trials; those that were replaced teach nothing.
        indices: Where the trials that are wanted stand in it; they are done.
        folds: Into how many folds one partition splits the examples; None for the
            largest number that divides those of all trials.

    Returns:
        Means and variances; a variance is NaN where nothing is known of it.

    Source:
        Nadeau and Bengio, Machine Learning 52, 2003, eq. 11, for the overlap. Smyth,
        Statistical Applications in Genetics and Molecular Biology 3, 2004, for
        variances that are shrunk to a common one by an inverse-gamma prior; it is
        fitted here to the moments of the variances, which may be zero, and not to
        those of their logarithms. Efron and Morris, JASA 1973, for the effects.

    >>> whole = Outcome(status="done", scores=(0.9, 0.7), mean=0.8, standard_error=0.05)
    >>> look = Outcome(status="done", scores=(0.9,), mean=0.9, folds_left=1)
    >>> names = ("probe", "lora", "full")
    >>> configs = [Config.of({"method": name}) for name in names]
    >>> history = list(zip(configs, (whole, whole, look)))
    >>> means, _ = fold_adjusted(history, (0, 1, 2))
    >>> means.round(2).tolist()
    [0.8, 0.8, 0.8]
    """
    groups: dict[int, list[Outcome]] = defaultdict(list)
    for i in latest(history):
        outcome = history[i][1]
        if outcome.is_whole and _is_told(outcome):
            groups[len(outcome.scores)].append(outcome)
    parts = folds or math.gcd(*groups)
    tables = {
        every: _Table.of(outcomes, parts)
        for every, outcomes in groups.items()
        if parts > 1
    }
    pairs = []
    for i in indices:
        outcome = history[i][1]
        table = tables.get(len(outcome.scores) + outcome.folds_left)
        if table is None or not _is_told(outcome):
            pairs.append((outcome.mean, outcome.standard_error**2))
        else:
            pairs.append((table.mean(outcome), table.variance(outcome)))
    means, variances = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return means, variances


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """What whole trials have shown of the folds that all of them ran."""

    effects: Float64[np.ndarray, " folds"]
    """How much more is scored on each than on all."""
    doubt: float
    """Variance of such an effect."""
    noise: float
    """Variance of a score around what Config and fold make of it."""
    trust: float
    """Degrees of freedom that `noise` is worth beside a trial's own variance."""
    overlap: float
    """Of the training parts: examples held out for each that is trained on."""

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], parts: int) -> "_Table":
        """Return what some outcomes show.

        Args:
            outcomes: Whole ones that tell the scores of the same folds.
            parts: Folds of one partition.
        """
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
        overlap = 1 / (parts - 1)
        errors = np.array([outcome.standard_error for outcome in outcomes]) ** 2
        known = errors[np.isfinite(errors)]
        guess, worth = 0.0, 0.0
        if len(known):
            guess, worth = float(np.median(known)) / (1 / folds + overlap), PRIOR_FOLDS
        noise = math.nan
        if freedom + worth > 0:
            noise = float(worth * guess + squares.sum()) / (worth + freedom)
        doubt, spread = noise / trials, float(effects.var(ddof=1))
        kept = max(1 - doubt / spread, 0.0) if spread > 0 and doubt >= 0 else 0.0
        return cls(
            effects=level + kept * (effects - level),
            doubt=kept * doubt,
            noise=noise,
            trust=_trust(squares.sum(axis=1), freedom / trials),
            overlap=overlap,
        )

    def mean(self, outcome: Outcome) -> float:
        """Return the mean score of a trial as if it had run all folds."""
        if outcome.is_whole:
            return outcome.mean
        return outcome.mean - float(self.effects[: len(outcome.scores)].mean())

    def variance(self, outcome: Outcome) -> float:
        """Return the variance of `mean`."""
        count, noise = len(outcome.scores), self.noise
        if math.isfinite(self.trust):
            left = np.array(outcome.scores) - self.effects[:count]
            squares = float(count * left.var())
            noise = (self.trust * noise + squares) / (self.trust + count - 1)
        doubt = 0.0 if outcome.is_whole else self.doubt / count
        return (1 / count + self.overlap) * noise + doubt


def _trust(squares: Float64[np.ndarray, " trials"], freedom: float) -> float:
    """Return how many degrees of freedom a common variance is worth.

    Infinite if variances differ no more than they would by chance.

    Args:
        squares: Sum of each trial's squared deviations.
        freedom: Degrees of freedom of each sum.
    """
    mean = float(squares.mean())
    if len(squares) < LEAST_TRIALS or mean == 0:
        return math.inf
    differ = freedom * float(squares.var(ddof=1)) / mean**2
    if differ <= 2:
        return math.inf
    return (4 * differ + 2 * freedom - 4) / (differ - 2) - 2


def _is_told(outcome: Outcome) -> bool:
    """Return whether every fold that was run has a score, of more than one in all."""
    run = len(outcome.scores)
    is_parted = run > 0 and run + outcome.folds_left > 1
    return is_parted and all(map(math.isfinite, outcome.scores))
