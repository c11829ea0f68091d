"""One study, replayed: what a sampler picks, and what it would have returned."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from parts.replay_landscape import Landscape
from parts.replay_samplers import Sampler

from fewshot_automl.oracle.advice import Adviser
from fewshot_automl.oracle.oracle import History
from fewshot_automl.oracle.winner import smoothed_scores
from fewshot_automl.outcome import FIRST_REFINEMENT, REFINEMENT, Outcome
from fewshot_automl.space import Config

RULES = ("smooth", "raw")
"""How the model to return is chosen: by posterior mean, or by raw score."""
SLACK = 1e-6
"""Of sums of thirds."""


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
    looks_first: bool = False,
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
        looks_first: Whether what is picked runs on its first fold, and on the others
            only when it is picked again. Folds count as their share of a trial.
        advisers: Those of the sampler, who have a say in which model is returned.
        smooth_every: After how many trials the posterior mean chooses anew; it stands
            by its choice in between.
    """
    paid = {trial.stem for trial in landscape.quick}
    history = [(t.config, landscape.outcome(t, set())) for t in landscape.quick]
    states = [State.of(landscape, history, spent=0.0, seconds=0.0)]
    left, begun, asked = [trial.config for trial in landscape.dear], set[Config](), 0.0
    while left and states[-1].spent < trials:
        start = time.process_time()
        config = sampler(history, left, seed)
        asked += time.process_time() - start
        trial, share = landscape.trials[config], 1.0
        if looks_first and trial.outcome.is_done:
            first = 1 / len(trial.outcome.scores)
            share = 1 - first if config in begun else first
        outcome = landscape.outcome(trial, paid, share)
        if share < 1 and config not in begun:
            outcome = first_look(outcome)
        begun.add(config)
        if not outcome.folds_left:
            left.remove(config)
        history.append((config, outcome))
        last = states[-1]
        states.append(
            State.of(
                landscape,
                history,
                spent=last.spent + share,
                seconds=last.seconds + outcome.cost_seconds,
            )
        )
    chosen = after_each_trial(states, trials)
    smooth: list[Config] = []
    for count, state in enumerate(chosen):
        smooth.append(
            smoothest(landscape, history[: state.told], seed, advisers)
            if count % smooth_every == 0
            else smooth[-1]
        )
    raw = [luckiest(history[: state.told]) for state in chosen]
    winners = {"smooth": smooth, "raw": raw}
    return Curve(
        task=landscape.name,
        sampler=name,
        seed=seed,
        version=version,
        unseen=regrets(landscape, winners, recorded=False),
        recorded=regrets(landscape, winners, recorded=True),
        seconds=[round(state.seconds, 2) for state in chosen],
        best_seen=[round(state.best, 5) for state in chosen],
        ask_seconds=round(asked, 3),
    )


@dataclass(frozen=True)
class State:
    """A study between two trials."""

    spent: float
    """Dear trials so far; some of their folds count as much of one."""
    seconds: float
    """Of the dear trials so far."""
    told: int
    """Entries of the history so far."""
    best: float
    """Regret of the best Config tried with all folds."""

    @classmethod
    def of(
        cls, landscape: Landscape, history: History, *, spent: float, seconds: float
    ) -> "State":
        """Return the state after a history."""
        whole = (config for config, outcome in history if outcome.is_whole)
        best = min(map(landscape.regret, whole))
        return cls(spent=spent, seconds=seconds, told=len(history), best=best)


def after_each_trial(states: Sequence[State], trials: int) -> list[State]:
    """Return the first state, and the last one of each whole trial that was spent."""
    spent = np.array([state.spent for state in states])
    counts = np.arange(min(trials, math.floor(spent[-1] + SLACK)) + 1)
    places = np.searchsorted(spent, counts + SLACK, side="right") - 1
    return [states[place] for place in places.tolist()]


def regrets(
    landscape: Landscape, winners: Mapping[str, Sequence[Config]], *, recorded: bool
) -> dict[str, list[float]]:
    """Return by rule what is lost with each of its choices."""
    return {
        rule: [round(landscape.regret(c, recorded=recorded), 5) for c in configs]
        for rule, configs in winners.items()
    }


def first_look(outcome: Outcome) -> Outcome:
    """Return what is told of a done trial after its first fold, paid already."""
    folds, objectives = len(outcome.scores), dict(outcome.objectives)
    if FIRST_REFINEMENT in objectives:
        objectives[REFINEMENT] = objectives[FIRST_REFINEMENT]
    return replace(
        outcome,
        scores=outcome.scores[:1],
        mean=outcome.scores[0],
        standard_error=outcome.standard_error * math.sqrt(folds),
        objectives=objectives,
        folds_left=folds - 1,
    )


def smoothest(
    landscape: Landscape,
    history: History,
    seed: int,
    advisers: tuple[Adviser, ...] = (),
) -> Config:
    """Return the Config of the best posterior mean, of those with all folds."""
    scores = smoothed_scores(landscape.space, history, seed, advisers)
    smooth = {i: score for i, score in scores.items() if history[i][1].is_whole}
    best = max(smooth, key=lambda i: (smooth[i], history[i][1].mean, -i))
    return history[best][0]


def luckiest(history: Sequence[tuple[Config, Outcome]]) -> Config:
    """Return the Config of the highest raw score, the first of equal ones."""
    done = [(config, outcome) for config, outcome in history if outcome.is_whole]
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
