"""One study, replayed: what a sampler picks, and what it would have returned."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from parts.replay_landscape import Landscape
from parts.replay_rows import Row, luckiest

from fewshot_automl.outcome import History
from fewshot_automl.space import Config

RULES = ("smooth", "raw")
"""How the model to return is chosen: by posterior mean, or by raw score."""


@dataclass(frozen=True)
class Curve:
    """The regret of one study after rung 0 and after each of its training trials.

    Lists begin with rung 0 alone and have one entry more than training trials.
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
    """Of the training trials so far."""
    best_seen: list[float]
    """Regret of the best Config tried so far, as if its truth was known:
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
    row: Row,
    trials: int,
    *,
    seed: int,
    name: str = "",
    version: str = "",
) -> Curve:
    """Replay a study of up to so many training trials.

    Args:
        landscape: What was recorded.
        row: Picks the trials, and chooses the model to return.
        trials: How many, at most as many as were recorded.
        seed: Of the study.
        name: Of the row.
        version: Of all that the curve depends on.
    """
    paid = {trial.stem for trial in landscape.cheap}
    history = [(t.config, landscape.outcome(t, set())) for t in landscape.cheap]
    left, asked = [trial.config for trial in landscape.training], 0.0
    best, seconds = [min(landscape.regret(c) for c, _ in history)], [0.0]
    winners: dict[str, list[Config]] = {"smooth": [], "raw": []}
    choose(row, history, seed, winners)
    while left and len(seconds) <= trials:
        start = time.process_time()
        with row.around():
            config = row.pick(history, left, seed)
        asked += time.process_time() - start
        outcome = landscape.outcome(landscape.trials[config], paid)
        left.remove(config)
        history.append((config, outcome))
        seconds.append(seconds[-1] + outcome.cost_seconds)
        regret = landscape.regret(config) if outcome.is_done else best[-1]
        best.append(min(best[-1], regret))
        choose(row, history, seed, winners)
    return Curve(
        task=landscape.name,
        sampler=name,
        seed=seed,
        version=version,
        unseen=regrets(landscape, winners, recorded=False),
        recorded=regrets(landscape, winners, recorded=True),
        seconds=[round(value, 2) for value in seconds],
        best_seen=[round(value, 5) for value in best],
        ask_seconds=round(asked, 3),
    )


def choose(
    row: Row, history: History, seed: int, winners: dict[str, list[Config]]
) -> None:
    """Add what would be returned after a history, by either rule."""
    raw = luckiest(history)
    with row.around():
        smooth = raw if row.mean is None else row.mean(history, seed)
    winners["smooth"].append(history[smooth][0])
    winners["raw"].append(history[raw][0])


def regrets(
    landscape: Landscape, winners: Mapping[str, Sequence[Config]], *, recorded: bool
) -> dict[str, list[float]]:
    """Return by rule what is lost with each of its choices."""
    return {
        rule: [round(landscape.regret(c, recorded=recorded), 5) for c in configs]
        for rule, configs in winners.items()
    }


def everything(
    landscape: Landscape, trials: int, *, seed: int, name: str, version: str
) -> Curve:
    """Return the flat curve of a search that had tried every Config already.

    What is left is what no search could avoid: scores are noisy, and the truth is
    another one.
    """
    history = [(t.config, t.outcome) for t in landscape.trials.values()]
    best = [history[luckiest(history)][0]] * (trials + 1)
    winners = {"smooth": best, "raw": best}
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
