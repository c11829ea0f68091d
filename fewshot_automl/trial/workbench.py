"""Everything a trial needs besides its Config, ready to be sent to another process."""

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Int

from fewshot_automl.adaptation.encodings import Encoder, Encodings
from fewshot_automl.adaptation.method import Profile
from fewshot_automl.backbones import weights
from fewshot_automl.backbones.backbone import Backbone
from fewshot_automl.backbones.card import Card
from fewshot_automl.backbones.load import load
from fewshot_automl.errors import unknown_name
from fewshot_automl.evaluation.folds import Folds
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.inputs import Input, content_hashes
from fewshot_automl.space import Config
from fewshot_automl.task import Task
from fewshot_automl.training.placement import Placement

MAX_LOADED: Final = 4
"""Backbones kept in memory at a time, the least recently used leaves first."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """The labelled examples of a study and how they are judged."""

    task: Task
    """What is to be learnt."""
    inputs: tuple[Input, ...]
    """Labelled examples."""
    labels: Int[np.ndarray, " examples"]
    """Their class indices."""
    folds: Folds
    """How they are split."""
    keys: tuple[str, ...] = ()
    """Content hashes; made from `inputs` when left out."""
    dear_repeats: int = 1
    """Partitions on which methods that train by steps are scored."""

    def __post_init__(self) -> None:
        """Hash the examples unless somebody has."""
        if not self.keys:
            object.__setattr__(self, "keys", content_hashes(self.inputs))

    @property
    def profile(self) -> Profile:
        """Return what dimensions depend on."""
        counts = np.bincount(self.labels, minlength=self.task.classes)
        return Profile(
            task=self.task, class_counts=tuple(int(count) for count in counts)
        )


@dataclass(slots=True, kw_only=True, eq=False)
class Workbench:
    """Holds problem, cards, store and placement; loads each backbone once.

    Pickles without the backbones: another process loads what its trials need.
    """

    problem: Problem
    """What is to be learnt, from what."""
    cards: tuple[Card, ...]
    """Backbones whose weights are at hand."""
    store: FeatureStore
    """Frozen activations."""
    placement: Placement
    """Where trainings run."""
    folder: Path
    """The study's folder; out-of-fold predictions go into `predictions/` in it."""
    seed: int = 0
    """Of everything random."""
    transfer: dict[str, dict[str, float]] = field(default_factory=dict)
    """What `trial.transfer` found of each backbone; another process finds its own."""
    latencies: dict[tuple[object, bool], float] = field(default_factory=dict)
    """Seconds of predicting one example, by backbone and whether it has LoRA layers;
    another process measures its own."""
    _loaded: "OrderedDict[str, Backbone]" = field(default_factory=OrderedDict)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the loaded backbones and what was timed on them."""
        return _workbench, (
            self.problem,
            self.cards,
            self.store,
            self.placement,
            self.folder,
            self.seed,
        )

    def card(self, name: str) -> Card:
        """Return the card of a backbone of this study.

        Raises:
            UnknownNameError: If it has none of that name.
        """
        for card in self.cards:
            if card.id == name:
                return card
        known = [card.id for card in self.cards]
        raise unknown_name("backbone", name, known, "fewshot zoo")

    def backbone(self, name: str) -> Backbone:
        """Return a backbone, frozen and on the study's device, loading it if needed."""
        if name not in self._loaded:
            card = self.card(name)
            backbone = load(card, weights.locate(card)).to(self.placement.device)
            self._loaded[name] = backbone
            while len(self._loaded) > MAX_LOADED:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(name)
        return self._loaded[name]

    def encodings(self, config: Config, deadline: float | None = None) -> Encodings:
        """Return the labelled examples as the Config's backbone sees them.

        Args:
            config: Names the backbone, if it needs one.
            deadline: `time.monotonic()` after which nothing new is encoded.
        """
        encoder = None
        if "backbone" in config:
            encoder = Encoder(
                backbone=self.backbone(config.text("backbone")),
                store=self.store,
                device=self.placement.device,
                deadline=deadline,
            )
        problem = self.problem
        return Encodings(inputs=problem.inputs, encoder=encoder, keys=problem.keys)


def _workbench(
    problem: Problem,
    cards: tuple[Card, ...],
    store: FeatureStore,
    placement: Placement,
    folder: Path,
    seed: int,
) -> Workbench:
    return Workbench(
        problem=problem,
        cards=cards,
        store=store,
        placement=placement,
        folder=folder,
        seed=seed,
    )
