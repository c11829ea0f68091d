"""Everything a trial needs besides its Config, ready to be sent to another process."""

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from fewshot_automl.adaptation.encodings import Encoder, Encodings
from fewshot_automl.adaptation.table import method
from fewshot_automl.backbones import weights
from fewshot_automl.backbones.backbone import Backbone
from fewshot_automl.backbones.card import Card
from fewshot_automl.backbones.load import load
from fewshot_automl.errors import unknown_name
from fewshot_automl.evaluation.folds import Fold, Folds
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.hardware import Forecast
from fewshot_automl.modalities import Input, content_hashes
from fewshot_automl.space import Config
from fewshot_automl.tasks import Task
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
    targets: np.ndarray
    """Their targets."""
    folds: Folds
    """How they are split."""
    keys: tuple[str, ...] = ()
    """Content hashes; made from `inputs` when left out."""
    unlabelled: Encodings | None = None
    """Examples without a label that heads may learn from, for any backbone."""
    training_repeats: int = 1
    """Partitions on which methods that train by steps are scored."""

    def __post_init__(self) -> None:
        """Hash the examples unless somebody has."""
        if not self.keys:
            object.__setattr__(self, "keys", content_hashes(self.inputs))

    def repeats(self, config: Config) -> tuple[tuple[Fold, ...], ...]:
        """Return the folds of a trial, repeat by repeat; trained methods have fewer."""
        return self.folds.repeats[
            : self.training_repeats if self.trains(config) else None
        ]

    @staticmethod
    def trains(config: Config) -> bool:
        """Return whether a Config trains by gradient steps."""
        return method(config.text("method")).trains


@dataclass(slots=True, kw_only=True, eq=False)
class TrialContext:
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
    seed: int = 0
    """Of everything random."""
    latencies: dict[tuple[object, bool, bool], float] = field(default_factory=dict)
    """Seconds of predicting one example, by backbone, whether it has LoRA layers and
    whether it reads windows; another process measures its own."""
    forecasts: dict[tuple[object, ...], Forecast] = field(default_factory=dict)
    """What trials need, by the shapes that it follows from; not sent along either."""
    missed: list[float] = field(default_factory=list)
    """By what factors trials of this process held more than was forecast."""
    _loaded: "OrderedDict[str, Backbone]" = field(default_factory=OrderedDict)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the loaded backbones and what was timed on them."""
        names = ("problem", "cards", "store", "placement", "seed")
        return partial(TrialContext, **{n: getattr(self, n) for n in names}), ()

    def card(self, name: str) -> Card:
        """Return the card of a backbone of this study."""
        known = {card.id: card for card in self.cards}
        if name not in known:
            raise unknown_name("backbone", name, known, "fewshot zoo")
        return known[name]

    def is_at_hand(self, config: Config) -> bool:
        """Return whether a Config's backbone, if it has one, can be loaded.

        A resumed study may have fewer backbones than it began with.
        """
        known = {card.id for card in self.cards}
        return "backbone" not in config or config.text("backbone") in known

    def portable(self) -> "TrialContext":
        """Return a copy for other machines: no path, and no GPU's number, crosses.

        Files go by what they hold. Weights and activations are found or made there.
        """
        problem, more = self.problem, self.problem.unlabelled
        if more is not None:
            more = replace(more, inputs=_by_value(more.inputs))
        kind, *_ = self.placement.device.partition(":")
        return TrialContext(
            problem=replace(problem, inputs=_by_value(problem.inputs), unlabelled=more),
            cards=self.cards,
            store=self.store,
            placement=replace(self.placement, device=kind),
            seed=self.seed,
        )

    def backbone(self, name: str, deadline: float | None = None) -> Backbone:
        """Return a backbone, frozen and on the study's device, loading it if needed.

        Weights that are not at hand, as on another machine, are fetched.
        """
        if name not in self._loaded:
            card = self.card(name)
            folder = weights.get(card, deadline=deadline)
            most = self.placement.weights_bytes
            while len(self._loaded) >= (MAX_LOADED if most is None else 1):
                self._loaded.popitem(last=False)
            self._loaded[name] = load(
                card, folder, device=self.placement.device, most_bytes=most
            )
        self._loaded.move_to_end(name)
        return self._loaded[name]

    def encodings(self, config: Config, deadline: float | None = None) -> Encodings:
        """Return the labelled examples as the Config's backbone sees them.

        Nothing new is encoded once `time.monotonic()` is past the deadline.
        """
        encoder = None
        if "backbone" in config:
            encoder = Encoder(
                backbone=self.backbone(config.text("backbone"), deadline),
                store=self.store,
                device=self.placement.device,
                deadline=deadline,
            )
        problem = self.problem
        return Encodings(inputs=problem.inputs, encoder=encoder, keys=problem.keys)


def _by_value(inputs: tuple[Input, ...]) -> tuple[Input, ...]:
    return tuple(x.read_bytes() if isinstance(x, Path) else x for x in inputs)
