"""What trials should cost by counting operations, before any has been seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Float64

from fewshot_automl.adaptation.encodings import POOLED
from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.adaptation.trained import views_of
from fewshot_automl.backbones.card import Card, TextInput
from fewshot_automl.errors import unknown_name
from fewshot_automl.inputs import Input
from fewshot_automl.space import Config
from fewshot_automl.task import Modality

Part = Literal["load", "encode", "train", "head"]
PARTS: Final[tuple[Part, ...]] = ("load", "encode", "train", "head")
"""What a trial pays for: weights from disk, frozen activations, training, heads."""
EFFICIENCY: Final[dict[Modality, float]] = {"text": 0.75, "image": 0.25}
"""Share of the matrix-product rate that an encoder reaches, before any trial; the
depthwise convolutions of small image encoders are far from matrix products."""
LOAD_SECONDS: Final = 0.4
"""Of opening any backbone."""
WEIGHTS_A_SECOND: Final = 1e8
"""Parameters that are read and checked in a second."""
STEP_SECONDS: Final = 0.005
"""Of one training step, whatever its size."""
HEAD_SECONDS: Final = 0.01
"""Of fitting one head."""
TOKENS_PER_CHARACTER: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The sizes that the cost of a trial follows from."""

    cards: tuple[Card, ...]
    """Backbones at hand."""
    examples: int
    """Labelled examples."""
    characters: float
    """Mean length of a text; 0 for images."""
    rate: float
    """Floating-point operations per second of a matrix product here."""
    quick_fits: int = 1
    """Fits in a trial of a quick method: folds times repeats."""
    dear_fits: int = 1
    """Fits in a trial of a method that trains by steps."""

    @property
    def tokens(self) -> float:
        """Return the mean tokens of a text, the special ones included; 0 for images."""
        return 2.0 + TOKENS_PER_CHARACTER * self.characters if self.characters else 0.0

    def card(self, name: str) -> Card:
        """Return the card of a backbone.

        Raises:
            UnknownNameError: If it is not at hand.
        """
        for card in self.cards:
            if card.id == name:
                return card
        raise unknown_name(
            "backbone", name, [card.id for card in self.cards], "fewshot zoo"
        )

    def fits(self, config: Config) -> int:
        """Return how many fits a trial makes: quick methods repeat their folds."""
        return self.dear_fits if is_dear(config) else self.quick_fits

    def parts(
        self, config: Config, *, fits: int, is_loaded: bool, is_encoded: bool
    ) -> Float64[np.ndarray, " parts"]:
        """Return the seconds of a trial, one number for each of `PARTS`.

        Args:
            config: What is tried.
            fits: How many times it is fitted.
            is_loaded: Whether its backbone was used before.
            is_encoded: Whether its activations were computed before.
        """
        load = encode = train = 0.0
        if "backbone" in config:
            name = config.text("backbone")
            load = 0.0 if is_loaded else self._load_seconds(name)
            encode = 0.0 if is_encoded else self._encode_seconds(config)
        if is_dear(config):
            train = fits * self._train_seconds(config)
        return np.array([load, encode, train, fits * HEAD_SECONDS])

    def pass_seconds(self, backbone: str) -> float:
        """Return the seconds of one example's way through a backbone."""
        card = self.card(backbone)
        return self._flops(card) / (EFFICIENCY[card.modality] * self.rate)

    def _load_seconds(self, backbone: str) -> float:
        return LOAD_SECONDS + self.card(backbone).parameters / WEIGHTS_A_SECOND

    def _encode_seconds(self, config: Config) -> float:
        """Return the seconds for what is frozen of a backbone, all views together."""
        name = config.text("backbone")
        frozen = 1.0 - trained_share(config, self.card(name).depth)
        return views_of(config) * frozen * self.examples * self.pass_seconds(name)

    def _train_seconds(self, config: Config) -> float:
        """Return the seconds of one training and of what it makes of all examples."""
        name = config.text("backbone")
        share = trained_share(config, self.card(name).depth)
        passes = METHODS[config.text("method")].passes
        steps, batch = int(config["steps"]), int(config["batch_size"])
        examples = passes * steps * batch + self.examples
        return steps * STEP_SECONDS + examples * share * self.pass_seconds(name)

    def _flops(self, card: Card) -> float:
        """Return operations for one example; texts count by their length."""
        if not isinstance(card.input, TextInput):
            return float(card.flops)
        tokens = min(self.tokens, card.input.max_tokens)
        return float(card.flops * tokens / card.flops_at)


def mean_characters(inputs: Sequence[Input]) -> float:
    """Return the mean length of texts, 0 for images.

    >>> mean_characters(("four", "sixsix"))
    5.0
    """
    lengths = [len(text) for text in inputs if isinstance(text, str)]
    return float(np.mean(lengths)) if lengths else 0.0


def first_trained(config: Config, depth: int) -> int:
    """Return the first block that a Config trains: -1 for all, `depth` for none.

    >>> first_trained(Config.of({"method": "lora", "frozen_fraction": 0.7}), 6)
    4
    """
    return METHODS[config.text("method")].first_trained(config, depth)


def trained_share(config: Config, depth: int) -> float:
    """Return the share of a backbone's blocks that a Config trains."""
    return 1.0 - max(first_trained(config, depth), 0) / depth


def activations(config: Config, depth: int) -> tuple[object, ...]:
    """Return what names the activations that a Config reads.

    Frozen fractions that round to the same block read the same.
    """
    first = first_trained(config, depth)
    place = POOLED if first == depth else first
    return config.get("backbone", ""), place, config.get("augmentation", "none")


def is_dear(config: Config) -> bool:
    """Return whether a Config trains by steps."""
    return METHODS[config.text("method")].trains
