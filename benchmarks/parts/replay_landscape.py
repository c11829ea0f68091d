"""A recorded landscape: every Config that may be tried, and what trying it says."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from landscape import BATCH_SIZE, LANDSCAPES, MEASURED, STEPS, rows_of, trains
from parts.replay_facts import Facts, known

from fewshot_automl.adaptation.method import Profile
from fewshot_automl.backbones.card import Card, read_card
from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.cli.zoo import is_embedded
from fewshot_automl.errors import SpaceError
from fewshot_automl.oracle.encoding import Encoding
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config, Space
from fewshot_automl.tasks import Task
from fewshot_automl.trial import Workload, space_for

Stem = tuple[object, ...]
"""Names the activations that a Config reads."""


@dataclass(frozen=True)
class Trial:
    """A Config, and what was recorded of it."""

    config: Config
    outcome: Outcome
    """Its seconds are those of the fits alone, the stem's activations at hand."""
    unseen: float
    """Accuracy on rows that no study sees; NaN if it failed."""
    stem: Stem
    """The activations that it reads."""


@dataclass(frozen=True, repr=False, eq=False)
class Landscape:
    """All recorded trials of one task.

    The truth of a Config is `unseen`. Regret is normalised by what can be gained over
    guessing: (best - truth) / (best - truth of `majority`), where best is the highest
    truth of any recorded Config, cheap ones included. Neither end depends on which
    Configs a Sobol sequence happened to hold, but for the best.
    """

    name: str
    facts: Facts
    space: Space
    cards: tuple[Card, ...]
    cheap: tuple[Trial, ...]
    """Rung 0, which every study begins with."""
    training: tuple[Trial, ...]
    """The pool that samplers choose from."""
    stems: Mapping[Stem, float]
    """Seconds for activations that were not at hand."""
    digest: str
    """Names the content of the files."""

    @classmethod
    def load(cls, file: Path, most: int | None = None) -> "Landscape":
        """Return what a file holds, or its first `most` lines.

        Raises:
            SystemExit: If the file does not fit the space that this code makes.
        """
        lines = file.read_text("utf-8").splitlines()[:most]
        rows = rows_of(file, most)
        facts = known()[file.stem]
        cards = recorded_cards(facts.modality)
        space = space_of(facts, cards)
        workload = Workload(cards=cards, examples=0, characters=0.0, rate=1.0)
        try:
            trials = [trial_of(row, space, workload) for row in rows]
        except SpaceError as error:
            raise SystemExit(
                f"Configs of {file} must lie in the space of this version: {error} "
                "Record it again: benchmarks/landscape.py"
            ) from error
        trials = list({trial.config: trial for trial in trials}.values())
        return cls(
            name=file.stem,
            facts=facts,
            space=space,
            cards=cards,
            cheap=tuple(t for t in trials if not trains(t.config)),
            training=tuple(t for t in trials if trains(t.config)),
            stems=stem_seconds(rows, space, workload),
            digest=hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12],
        )

    def part(self, share: float, seed: int) -> "Landscape":
        """Return the landscape with a random share of its training trials."""
        count = round(share * len(self.training))
        order = np.random.default_rng([seed, 7]).permutation(len(self.training))
        return replace(
            self, training=tuple(self.training[i] for i in sorted(order[:count]))
        )

    @cached_property
    def trials(self) -> dict[Config, Trial]:
        """Return all trials by Config."""
        return {trial.config: trial for trial in (*self.cheap, *self.training)}

    @cached_property
    def encoding(self) -> Encoding:
        """Return what turns Configs into rows of numbers."""
        return Encoding(self.space)

    def outcome(self, trial: Trial, paid: set[Stem]) -> Outcome:
        """Return what a study gets; activations cost once, and are then paid.

        Args:
            trial: What is tried.
            paid: The activations at hand.
        """
        extra = 0.0 if trial.stem in paid else self.stems.get(trial.stem, 0.0)
        paid.add(trial.stem)
        seconds = trial.outcome.cost_seconds + extra
        return replace(trial.outcome, cost_seconds=seconds)

    def regret(self, config: Config, *, recorded: bool = False) -> float:
        """Return the normalised regret of a Config.

        Args:
            config: The one that a study would return.
            recorded: Whether the cross-validated score is the truth, not `unseen`.
        """
        best, floor = self._ends[recorded]
        return (best - truth(self.trials[config], recorded)) / (best - floor)

    @cached_property
    def _ends(self) -> tuple[tuple[float, float], tuple[float, float]]:
        done = [trial for trial in self.trials.values() if trial.outcome.is_done]
        floors = [t for t in done if t.config.text("method") == "majority"]
        if not floors:
            raise SystemExit(
                f"{self.name} must hold a trial of `majority`; it does not."
            )

        def ends(recorded: bool) -> tuple[float, float]:
            values = [truth(trial, recorded) for trial in done]
            return max(values), truth(floors[0], recorded)

        return ends(False), ends(True)


def truth(trial: Trial, recorded: bool) -> float:
    """Return the accuracy that counts: on unseen rows, or as cross-validated."""
    return trial.outcome.mean if recorded else trial.unseen


def recorded_cards(modality: str) -> tuple[Card, ...]:
    """Return the cards whose weights packages carry, or carried when it was recorded.

    The weights need not be there.
    """
    retired = [read_card(path) for path in sorted(LANDSCAPES.glob("*.toml"))]
    cards = [*filter(is_embedded, Zoo.shipped()), *retired]
    return tuple(card for card in cards if card.modality == modality)


def space_of(facts: Facts, cards: tuple[Card, ...]) -> Space:
    """Return the space that a task's Configs were drawn from."""
    names = tuple(f"{i:03}" for i in range(len(facts.counts)))
    task = Task(modality=facts.modality, names=names)
    space = space_for(Profile(task=task, strata=facts.counts), cards)
    return space.narrow("steps", STEPS).narrow("batch_size", BATCH_SIZE)


def config_of(row: Mapping[str, Any], space: Space) -> Config:
    """Return a recorded Config; dimensions that are new since have their default."""
    return space.default(**row["config"])


def trial_of(row: Mapping[str, Any], space: Space, workload: Workload) -> Trial:
    """Return the trial of a recorded line."""
    config = config_of(row, space)
    if row["status"] != "done":
        outcome = Outcome(
            status="failed", reason=row["reason"], cost_seconds=row["price"] / 3
        )
        return Trial(config, outcome, float("nan"), stem_of(config, workload))
    outcome = Outcome(
        status="done",
        scores=tuple(row["scores"]),
        mean=row["mean"],
        standard_error=row["standard_error"],
        cost_seconds=sum(row["seconds"]) - waited(row),
        measures={name: row[name] for name in MEASURED},
    )
    return Trial(config, outcome, row["unseen"], stem_of(config, workload))


def stem_of(config: Config, workload: Workload) -> Stem:
    """Return what names the activations that a Config reads."""
    shared = workload.shared(config)
    return (shared[-1],) if shared else ()


def waited(row: Mapping[str, Any]) -> float:
    """Return how much longer the first fit took than the median of the others.

    Activations are computed when they are first read: within the first fit.
    """
    first, *others = row["seconds"]
    return max(0.0, first - float(np.median(others)))


def stem_seconds(
    rows: Iterable[Mapping[str, Any]], space: Space, workload: Workload
) -> dict[Stem, float]:
    """Return the seconds for each kind of activations: what its first reader paid."""
    paid: dict[Stem, float] = {}
    for row in rows:
        if row["status"] == "done":
            stem = stem_of(config_of(row, space), workload)
            paid.setdefault(stem, row["prepared"] + waited(row))
    return paid
