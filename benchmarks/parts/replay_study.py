"""One study, replayed: what a sampler picks, and what it would have returned."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from parts.replay_landscape import Landscape
from parts.replay_samplers import Sampler

from fewshot_automl.oracle.oracle import History
from fewshot_automl.oracle.winner import incumbent
from fewshot_automl.outcome import Outcome
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
) -> Curve:
    """Replay a study of up to so many dear trials.

    Args:
        landscape: What was recorded.
        sampler: Picks the dear trials.
        trials: How many, at most as many as were recorded.
        seed: Of the study.
        name: Of the sampler.
        version: Of all that the curve depends on.
    """
    paid = {trial.stem for trial in landscape.quick}
    history = [(t.config, landscape.outcome(t, set())) for t in landscape.quick]
    left = [trial.config for trial in landscape.dear]
    found = [winners(landscape, history, seed)]
    best = [min(landscape.regret(c) for c, o in history if o.is_done)]
    seconds, asked = [0.0], 0.0
    for _ in range(min(trials, len(left))):
        start = time.process_time()
        config = sampler(history, left, seed)
        asked += time.process_time() - start
        left.remove(config)
        outcome = landscape.outcome(landscape.trials[config], paid)
        history.append((config, outcome))
        seconds.append(seconds[-1] + outcome.cost_seconds)
        here = landscape.regret(config) if outcome.is_done else best[-1]
        best.append(min(best[-1], here))
        found.append(winners(landscape, history, seed))

    def regrets(*, recorded: bool) -> dict[str, list[float]]:
        return {
            rule: [
                round(landscape.regret(w[rule], recorded=recorded), 5) for w in found
            ]
            for rule in RULES
        }

    return Curve(
        task=landscape.name,
        sampler=name,
        seed=seed,
        version=version,
        unseen=regrets(recorded=False),
        recorded=regrets(recorded=True),
        seconds=[round(x, 2) for x in seconds],
        best_seen=[round(x, 5) for x in best],
        ask_seconds=round(asked, 3),
    )


def winners(landscape: Landscape, history: History, seed: int) -> dict[str, Config]:
    """Return the Config that each rule would choose."""
    index = incumbent(landscape.space, history, seed)
    assert index is not None, "rung 0 has done trials"
    return {"smooth": history[index][0], "raw": luckiest(history)}


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
    found = winners(landscape, history, seed)

    def flat(*, recorded: bool) -> dict[str, list[float]]:
        return {
            rule: [round(landscape.regret(config, recorded=recorded), 5)] * (trials + 1)
            for rule, config in found.items()
        }

    return Curve(
        task=landscape.name,
        sampler=name,
        seed=seed,
        version=version,
        unseen=flat(recorded=False),
        recorded=flat(recorded=True),
        seconds=[0.0] * (trials + 1),
        best_seen=[0.0] * (trials + 1),
        ask_seconds=0.0,
    )
