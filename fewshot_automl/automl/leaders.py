"""Who is ahead while a study runs, first looks included."""

from collections.abc import Callable, Sequence

from fewshot_automl.oracle.completion import leading_quickly
from fewshot_automl.oracle.folds import latest
from fewshot_automl.oracle.steadied import comparable_scores
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config

History = Sequence[tuple[Config, Outcome]]


def foremost(history: History, is_allowed: Callable[[Outcome], bool]) -> list[Config]:
    """Return the Configs that the model will be of, as far as is known, the best first.

    Only trials of all folds can become the model, so a Config that ran some folds
    stands among them only if it leads them all; then the rest is still to be run. A
    few lucky looks would else hide what will have to be fitted.

    Args:
        history: All trials.
        is_allowed: Whether a done trial may win; if none may, all do.

    >>> def trial(method, mean, folds_left=0):
    ...     done = {"status": "done", "mean": mean, "folds_left": folds_left}
    ...     return Config.of({"method": method}), Outcome(**done)
    >>> history = [trial("probe", 0.7), trial("full", 0.8), trial("lora", 0.75, 2)]
    >>> [config.text("method") for config in foremost(history, lambda outcome: True)]
    ['full', 'probe']
    """
    done = [i for i in latest(history) if history[i][1].is_done]
    if not any(is_allowed(history[i][1]) for i in done):
        is_allowed = _any
    means, _ = comparable_scores(history, done)
    scores = dict(zip(done, means.tolist(), strict=True))
    allowed = [i for i in done if is_allowed(history[i][1])]
    ranked = sorted(allowed, key=lambda i: -scores[i])
    begun = {history[i][0] for i in allowed if history[i][1].folds_left}
    ahead = [c for c in leading_quickly(history, is_allowed) if c in begun]
    whole = [history[i][0] for i in ranked if history[i][1].is_whole]
    return [*ahead[:1], *whole]


def _any(outcome: Outcome) -> bool:
    return True


def unstopped(history: History) -> list[tuple[Config, Outcome]]:
    """Return a history without the trials that ran out of time.

    They say nothing about their Configs. One whose other folds were stopped still has
    them left.
    """
    return [pair for pair in history if pair[1].status != "stopped"]
