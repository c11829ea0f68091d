"""The honest number: out-of-fold outputs of all trials, corrected for choosing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float

from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.automl.tried import Outputs, Tried
from fewshot_automl.evaluation.intervals import (
    correct_for_selection,
    indistinguishable,
)
from fewshot_automl.evaluation.resampling import pooled_score
from fewshot_automl.space import Config

LEAST_KEPT: Final = 0.1
"""Share of a score's luck that survives in a posterior mean, at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """An estimate of the metric on new data, in the metric's own direction."""

    metric: str
    """Name of the metric."""
    raw: float
    """Cross-validated score of the model: too good, for it was picked by it."""
    corrected: float
    """The same, corrected for having picked the best of many."""
    low: float
    """Lower end of the 95 % interval for the score on new data."""
    high: float
    """Upper end of it."""
    examples: int
    """Labelled examples behind it."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}

    def __str__(self) -> str:
        """Return the score with its interval."""
        return (
            f"{self.metric} {self.corrected:.3f} "
            f"(95 % interval {self.low:.3f} to {self.high:.3f})"
        )


def honest_score(
    tried: Tried, scores: Mapping[int, float], model: Outputs, seed: int
) -> Score:
    """Return the score of the model, corrected for having been picked.

    The model was picked by posterior means, not by raw scores; so does the bootstrap.
    It stands among the trials as one more candidate, for it may be an ensemble.

    Args:
        tried: All trials.
        scores: Posterior mean of each trial that could win.
        model: Out-of-fold outputs of the model, calibrated.
        seed: Of the bootstrap.
    """
    targets, metric = tried.problem.targets, tried.problem.task.measured
    every = [model, *map(tried.outputs, scores)]
    # Scored as the correction scores them; a mean over repeats may differ from it.
    raw = np.array([pooled_score(metric, targets, outputs) for outputs in every])
    bonus = _bonus(raw, np.array([max(scores.values()), *scores.values()]))
    corrected = correct_for_selection(targets, every, metric, bonus=bonus, seed=seed)
    low, high = sorted(map(metric.orient, (corrected.low, corrected.high)))
    return Score(
        metric=metric.name,
        raw=metric.orient(float(raw[0])),
        corrected=metric.orient(corrected.score),
        low=low,
        high=high,
        examples=len(targets),
    )


def equal_trials(tried: Tried, winner: int, seed: int) -> list[int]:
    """Return the numbers of the trials that cannot be told apart from the winner."""
    problem, done = tried.problem, tried.done
    equal = indistinguishable(
        problem.targets,
        list(map(tried.outputs, done)),
        problem.task.measured,
        winner=done.index(winner),
        seed=seed,
    )
    return [i for i, same in zip(done, equal, strict=True) if same]


def partners_of(
    tried: Tried,
    winner: int,
    equal: Sequence[int],
    most: int,
    holds: Callable[[Sequence[int]], bool] = lambda numbers: True,
) -> list[int]:
    """Return trials to average with the winner, the most trusted first.

    With 8 labels a class the best trial is often best by luck. A partner cannot be
    told apart from the winner on the metric, has another backbone or another kind of
    training than the winner and the partners before it, and comes in the order of
    out-of-fold log loss, which is less noisy than a share of right answers. (Texts,
    8 a class, 6 draws, cheap methods, test accuracy: the best by the metric 0.669,
    0.777, 0.841 on trec6, subj and clickbait; with two partners 0.659, 0.828, 0.869;
    once, by hand: decision 0008.)

    Args:
        tried: All trials.
        winner: Number of the best trial.
        equal: Numbers of those that cannot be told apart from it.
        most: Partners at most.
        holds: Whether the average of some trials is allowed; a partner with whom it
            is not is passed over.
    """
    losses = {
        i: tried.refinement(i)
        for i in equal
        if METHODS[tried.config(i).text("method")].needs_backbone
    }
    kinds = {_kind(tried.config(winner))}
    chosen: list[int] = []
    for i in sorted(losses, key=losses.__getitem__):
        is_new = len(chosen) < most and _kind(tried.config(i)) not in kinds
        if is_new and holds([winner, *chosen, i]):
            kinds.add(_kind(tried.config(i)))
            chosen.append(i)
    return chosen


def _kind(config: Config) -> tuple[str, bool]:
    method = METHODS[config.text("method")]
    return str(config.get("backbone", "")), method.trains


def _bonus(
    raw: Float[np.ndarray, " models"], means: Float[np.ndarray, " models"]
) -> Float[np.ndarray, " models"]:
    """Return what to add to raw scores so that the best is picked as it was picked.

    A posterior mean is taken as linear in the scores: of a trial's luck in a draw, only
    the share `kept` reaches it. Picking by ``mean + kept * luck`` is picking by
    ``raw + luck + bonus`` with the bonus returned. The first is the model and lifted to
    the top, whatever it was picked for.
    """
    spread = float(raw.var())
    slope = float(np.cov(raw, means, bias=True)[0, 1]) / spread if spread else 1.0
    kept = float(np.clip(slope, LEAST_KEPT, 1.0))
    bonus: np.ndarray = means / kept - raw
    bonus[0] += float((raw + bonus).max() - (raw + bonus)[0]) + 1e-9
    return bonus
