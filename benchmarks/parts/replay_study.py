"""One study, replayed: what a sampler picks, and what it would have returned."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from parts.replay_landscape import Landscape
from parts.replay_samplers import Sampler

from fewshot_automl.oracle.advice import Adviser
from fewshot_automl.oracle.winner import smoothed_scores
from fewshot_automl.outcome import History, Outcome
from fewshot_automl.space import Config

RULES = ("smooth", "raw")
"""How the model to return is chosen: by posterior mean, or by raw score."""


@dataclass(frozen=True)
class Curve:
    """The regret of one study after rung 0 and after each of its dear trials.

    Lists begin with rung 0 alone and have one entry more than dear trials.
    """

    task: str
    sampler: str
    seed: int
    version: str
    """Of all that it depends on; another version is another curve."""
    unseen: dict[str, list[float]]
    """By rule; the truth is the accuracy on unseen rows."""
    recorded: dict[str, list[float]]
    """By rule; the truth is the cross-validated score."""
    seconds: list[float]
    """Of the dear trials so far."""
    best_seen: list[float]
    """Regret of the best dear or quick Config tried so far, as if its truth was known:
    what is lost by search alone."""
    ask_seconds: float
    """CPU seconds of all picks together."""

    @property
    def key(self) -> tuple[str, str, int, str]:
        """Return what makes a curve the same curve."""
        return self.task, self.sampler, self.seed, self.version

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


def replay(
    landscape: Landscape,
    sampler: Sampler,
    trials: int,
    *,
    seed: int,
    name: str = "",
    version: str = "",
    advisers: tuple[Adviser, ...] = (),
    smooth_every: int = 1,
) -> Curve:
    """Replay a study of up to so many dear trials.

    Args:
        landscape: What was recorded.
        sampler: Picks the dear trials.
        trials: How many, at most as many as were recorded.
        seed: Of the study.
        name: Of the sampler.
        version: Of all that the curve depends on.
        advisers: Those of the sampler, who have a say in which model is returned.
        smooth_every: After how many trials the posterior mean chooses anew; it stands
            by its choice in between.
    """
    paid = {trial.stem for trial in landscape.quick}
    history = [(t.config, landscape.outcome(t, set())) for t in landscape.quick]
    told = len(history)
    left, asked = [trial.config for trial in landscape.dear], 0.0
    seconds, best = [0.0], [min(landscape.regret(c) for c, o in history if o.is_done)]
    while left and len(seconds) <= trials:
        start = time.process_time()
        config = sampler(history, left, seed)
        asked += time.process_time() - start
        outcome = landscape.outcome(landscape.trials[config], paid)
        left.remove(config)
        history.append((config, outcome))
        seconds.append(seconds[-1] + outcome.cost_seconds)
        regret = landscape.regret(config) if outcome.is_done else math.inf
        best.append(min(best[-1], regret))
    after = [history[: told + count] for count in range(len(seconds))]
    smooth: list[Config] = []
    for count, known in enumerate(after):
        smooth.append(
            smoothest(landscape, known, seed, advisers)
            if count % smooth_every == 0
            else smooth[-1]
        )
    raw = [luckiest(known) for known in after]
    winners = {"smooth": smooth, "raw": raw}
    return Curve(
        task=landscape.name,
        sampler=name,
        seed=seed,
        version=version,
        unseen=regrets(landscape, winners, recorded=False),
        recorded=regrets(landscape, winners, recorded=True),
        seconds=[round(x, 2) for x in seconds],
        best_seen=[round(x, 5) for x in best],
        ask_seconds=round(asked, 3),
    )


def regrets(
    landscape: Landscape, winners: Mapping[str, Sequence[Config]], *, recorded: bool
) -> dict[str, list[float]]:
    """Return by rule what is lost with each of its choices."""
    return {
        rule: [round(landscape.regret(c, recorded=recorded), 5) for c in configs]
        for rule, configs in winners.items()
    }


def smoothest(
    landscape: Landscape,
    history: History,
    seed: int,
    advisers: tuple[Adviser, ...] = (),
) -> Config:
    """Return the Config of the best posterior mean, of the done ones."""
    scores = smoothed_scores(landscape.space, history, seed, advisers)
    smooth = {i: score for i, score in scores.items() if history[i][1].is_done}
    best = max(smooth, key=lambda i: (smooth[i], history[i][1].mean, -i))
    return history[best][0]


def luckiest(history: Sequence[tuple[Config, Outcome]]) -> Config:
    """Return the Config of the highest raw score, the first of equal ones."""
    done = [(config, outcome) for config, outcome in history if outcome.is_done]
    return max(done, key=lambda pair: pair[1].mean)[0]


def everything(
    landscape: Landscape, trials: int, *, seed: int, name: str, version: str
) -> Curve:
    """Return the flat curve of a search that had tried every Config already.

    What is left is what no search could avoid: scores are noisy, and the truth is
    another one.
    """
    history = [(t.config, t.outcome) for t in landscape.trials.values()]
    winners = {
        "smooth": [smoothest(landscape, history, seed)] * (trials + 1),
        "raw": [luckiest(history)] * (trials + 1),
    }
    return Curve(
        task=landscape.name,
        sampler=name,
        seed=seed,
        version=version,
        unseen=regrets(landscape, winners, recorded=False),
        recorded=regrets(landscape, winners, recorded=True),
        seconds=[0.0] * (trials + 1),
        best_seen=[0.0] * (trials + 1),
        ask_seconds=0.0,
    )
