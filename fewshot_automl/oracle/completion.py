"""An oracle for the end of a study: it goes on with what leads, and starts nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fewshot_automl.oracle.advice import Adviser
from fewshot_automl.oracle.folds import latest, resumable
from fewshot_automl.oracle.oracle import History
from fewshot_automl.oracle.part import Part, is_inside
from fewshot_automl.oracle.steadied import comparable_scores
from fewshot_automl.oracle.winner import smoothed_scores
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config, Space


def _any(outcome: Outcome) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """Suggests Configs with folds left that lead all that have run all folds.

    Only trials of all folds can become the model. A Config with folds left that is
    expected to be better than all of them should not miss that for want of a fold.
    """

    is_allowed: Callable[[Outcome], bool] = _any
    """Whether a done trial may win."""
    advisers: tuple[Adviser, ...] = ()
    """Those of the search."""

    def suggest(
        self,
        space: Space,
        history: History,
        n: int,
        seed: int,
        within: Part | None = None,
    ) -> list[Config]:
        """Return up to `n` Configs whose folds that are left should be run."""
        known = {config for config in resumable(history) if space.contains(config)}
        if within is not None:
            known = {config for config in known if is_inside(within, config)}
        if not known:
            return []
        scores = smoothed_scores(space, history, seed, self.advisers)
        ahead = leading(history, scores, self.is_allowed)
        return [config for config in ahead if config in known][:n]


def leading(
    history: History,
    scores: Mapping[int, float],
    is_allowed: Callable[[Outcome], bool] = _any,
) -> list[Config]:
    """Return the Configs with folds left that score above those without any left.

    Args:
        history: All trials.
        scores: What to compare, by place in the history.
        is_allowed: Whether a done trial may win.

    Returns:
        The best first.
    """
    allowed = [i for i in scores if is_allowed(history[i][1])]
    ranked = sorted(allowed, key=lambda i: -scores[i])
    whole = [scores[i] for i in ranked if history[i][1].is_whole]
    ahead = [i for i in ranked if not whole or scores[i] > whole[0]]
    return [history[i][0] for i in ahead]


def leading_quickly(
    history: History, is_allowed: Callable[[Outcome], bool] = _any
) -> list[Config]:
    """Return what `leading` does, but by `comparable_scores` alone.

    It takes a moment where the surrogate takes long, and sees more of them ahead.
    """
    done = [i for i in latest(history) if history[i][1].is_done]
    means, _ = comparable_scores(history, done)
    return leading(history, dict(zip(done, means.tolist(), strict=True)), is_allowed)
