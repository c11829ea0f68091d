"""Who is ahead while a study runs."""

from collections.abc import Callable

from fewshot_automl.oracle.steadied import comparable_scores
from fewshot_automl.outcome import History, Outcome
from fewshot_automl.space import Config


def foremost(history: History, is_allowed: Callable[[Outcome], bool]) -> list[Config]:
    """Return the Configs that the model will be of, as far as is known, the best first.

    Args:
        history: All trials.
        is_allowed: Whether a done trial may win; if none may, all do.

    >>> def trial(method, mean):
    ...     return Config.of({"method": method}), Outcome(status="done", mean=mean)
    >>> history = [trial("probe", 0.7), trial("full", 0.8)]
    >>> [config.text("method") for config in foremost(history, lambda outcome: True)]
    ['full', 'probe']
    """
    done = [i for i, (_, outcome) in enumerate(history) if outcome.is_done]
    allowed = [i for i in done if is_allowed(history[i][1])] or done
    means, _ = comparable_scores(history, done)
    scores = dict(zip(done, means.tolist(), strict=True))
    return [history[i][0] for i in sorted(allowed, key=lambda i: -scores[i])]


def unstopped(history: History) -> list[tuple[Config, Outcome]]:
    """Return a history without the trials that ran out of time.

    They say nothing about their Configs.
    """
    return [pair for pair in history if pair[1].status != "stopped"]
