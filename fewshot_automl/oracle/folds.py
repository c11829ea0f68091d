"""Trials that have only looked at their first folds, and how to compare them."""

from fewshot_automl.oracle.oracle import History
from fewshot_automl.space import Config


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
