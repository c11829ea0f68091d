"""What trials should cost by counting operations, before any has been seen."""

import time
from collections.abc import Hashable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import torch

from fewshot_automl.adaptation.encodings import POOLED, WHOLE
from fewshot_automl.adaptation.frozen import reads_unlabelled, reads_windows
from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.adaptation.trained import (
    BFLOAT16_SHARE,
    training_place,
    views_of,
)
from fewshot_automl.backbones.card import Card, TextInput
from fewshot_automl.hardware import PROCESS_BYTES, Forecast
from fewshot_automl.modalities import Input, modality_named
from fewshot_automl.space import Config
from fewshot_automl.training import Placement
from fewshot_automl.trial.context import TrialContext

LOAD_SECONDS: Final = 0.4
"""Of opening any backbone."""
WEIGHTS_A_SECOND: Final = 1e8
"""Parameters that are read and checked in a second."""
STEP_SECONDS: Final = 0.005
"""Of one training step, whatever its size."""
HEAD_SECONDS: Final = 0.01
"""Of fitting one head."""
COUNTING_SECONDS: Final = 3e-6
"""Of a character whose terms are counted, and weighed by a head."""
TERMS_SECONDS: Final = 3.5e-5
"""Of an example and a class in a head on terms: 1.2 s for 512 examples of 64 classes,
4.5 s for 1,861 of them (hwu64, CPU seconds, once, by hand)."""
TOKENS_PER_CHARACTER: Final = 0.25
BATCH: Final = 32
"""Examples in a batch whose products are measured."""
LONG: Final = 64
"""Tokens beyond which a product of more rows is no faster, only longer."""
PATCHES: Final = 196
"""Tokens of an image in such a batch."""
WIDTH: Final = 384
"""Of the products where there is no backbone."""
BYTES_A_FLOP: Final = {"text": 0.02, "image": 0.2}
"""More than any backbone keeps for an operation until the way back: MiniLM 0.013,
MobileNetV2 0.13."""
PRODUCTS: Final = 6
PASSES: Final = 4
"""Of a batch that are timed."""
CPU: Final = Placement(device="cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The sizes that the cost of a trial follows from; `policy.Arithmetic`."""

    cards: tuple[Card, ...]
    """Backbones at hand."""
    examples: int
    """Labelled examples."""
    characters: float
    """Mean length of a text; 0 for images."""
    unlabelled: int = 0
    """Examples without a label that some heads read."""
    width: int = 1
    """Outputs for an example: of classes, their number."""
    rate: float
    """Floating-point operations per second of a matrix product here."""
    placement: Placement = CPU
    """Where and in which precision trainings run."""
    _by_name: dict[str, Card] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the cards: costs are asked for thousands of Configs."""
        object.__setattr__(self, "_by_name", {card.id: card for card in self.cards})

    @classmethod
    def measured(
        cls,
        cards: tuple[Card, ...],
        inputs: Sequence[Input],
        placement: Placement,
        width: int = 1,
    ) -> "Workload":
        """Return the workload of some examples, after timing this machine shortly."""
        lengths = [len(text) for text in inputs if isinstance(text, str)]
        characters = float(np.mean(lengths)) if lengths else 0.0
        tokens = round(_tokens(characters)) or PATCHES
        rate = matrix_product_rate(
            placement.device,
            rows=BATCH * min(tokens, LONG),
            width=min((card.width for card in cards), default=WIDTH),
        )
        return cls(
            cards=cards,
            examples=len(inputs),
            characters=characters,
            width=width,
            rate=rate,
            placement=placement,
        )

    @property
    def backbones(self) -> tuple[str, ...]:
        """Return the names of those at hand, the default and the best known first."""
        ranked = sorted(self.cards, key=lambda c: (not c.is_default, c.prior_rank))
        return tuple(card.id for card in ranked)

    def prior(self, backbone: str) -> float:
        """Return the zoo's rank of a backbone, such that greater is better."""
        return -float(np.log(self._by_name[backbone].prior_rank))

    def trains(self, config: Config) -> bool:
        """Return whether a Config trains by gradient steps."""
        return METHODS[config.text("method")].trains

    def shared(self, config: Config) -> tuple[Hashable, ...]:
        """Return names of the backbone and of the activations that a trial reads.

        Frozen fractions that round to the same block read the same activations.
        """
        if "backbone" not in config:
            return ()
        card = self._by_name[config.text("backbone")]
        first = first_trained(config, card.depth)
        pooled = WHOLE if reads_windows(config) else POOLED
        place = pooled if first == card.depth else first
        read = (card.id, (card.id, place, config.get("augmentation", "none")))
        if reads_unlabelled(config):
            return (*read, (card.id, place, "unlabelled"))
        return read

    def parts(
        self, config: Config, fits: int, have: Set[Hashable]
    ) -> tuple[float, float, float, float]:
        """Return the seconds of loading, encoding, training and heads of a trial."""
        head = fits * HEAD_SECONDS
        if "backbone" not in config:
            if METHODS[config.text("method")].learns:
                each = COUNTING_SECONDS * self.characters + TERMS_SECONDS * self.width
                head += fits * self.examples * each
            return 0.0, 0.0, 0.0, head
        card = self._by_name[config.text("backbone")]
        loaded, encoded, *more = self.shared(config)
        trained = 1.0 - max(first_trained(config, card.depth), 0) / card.depth
        each = self.pass_seconds(card.id)
        load = encode = train = 0.0
        if loaded not in have:
            load = LOAD_SECONDS + card.parameters / WEIGHTS_A_SECOND
        if encoded not in have:
            encode = views_of(config) * (1.0 - trained) * self.examples * each
            encode *= self.windows(config)
        if any(one not in have for one in more):
            encode += self.unlabelled * each * self.windows(config)
        if self.trains(config):
            passes = METHODS[config.text("method")].passes
            steps, batch = int(config["steps"]), int(config["batch_size"])
            place = training_place(self.placement, card)
            # Only for a CPU was the share measured; a GPU's rate is that of its floats.
            if place.device == "cpu" and place.precision == "bf16":
                passes *= BFLOAT16_SHARE
            rows = passes * steps * batch + self.examples
            train = fits * (steps * STEP_SECONDS + rows * trained * each)
        return load, encode, train, head

    def forecast(self, config: Config, seconds: float) -> Forecast:
        """Return roughly what a training needs that takes so many seconds."""
        card = self._by_name[config.text("backbone")]
        trained = 1.0 - max(first_trained(config, card.depth), 0) / card.depth
        batch = int(config["batch_size"]) * self._flops(card)
        return replace(rough_forecast(card, batch, trained), seconds=seconds)

    def frozen(self, backbone: str) -> Forecast:
        """Return roughly what heads on frozen features need."""
        return rough_forecast(self._by_name[backbone], 0.0, 0.0)

    def payable(self, seconds: float) -> int:
        """Return how many unlabelled examples the slowest backbone reads in a time."""
        return int(seconds / max(map(self.pass_seconds, self._by_name), default=1.0))

    def pass_seconds(self, backbone: str) -> float:
        """Return the seconds of one example's way through a backbone."""
        card = self._by_name[backbone]
        rate = modality_named(card.modality).efficiency * self.rate
        return self._flops(card) / rate

    def _flops(self, card: Card) -> float:
        if isinstance(card.input, TextInput):  # texts count by their length
            tokens = min(_tokens(self.characters), card.input.max_tokens)
            return card.flops * tokens / card.flops_at
        return float(card.flops)

    def windows(self, config: Config) -> float:
        """Return in how many windows a Config reads an example."""
        if not reads_windows(config):
            return 1.0
        recipe = self._by_name[config.text("backbone")].input
        most = recipe.max_tokens if isinstance(recipe, TextInput) else 1
        return max(_tokens(self.characters) / most, 1.0)


def rough_forecast(card: Card, flops: float, trained: float) -> Forecast:
    """Return a bound of what training a share of a backbone needs, seconds left out.

    The operations are those of a batch. Of what is trained there are two copies, for
    the model of the fold before is still there, gradients and AdamW's two moments.
    """
    weights = 4 * card.parameters
    learnt = round(trained * weights)
    batch = round(BYTES_A_FLOP[card.modality] * flops * trained)
    return Forecast(
        memory_bytes=PROCESS_BYTES + weights + 5 * learnt + batch,
        weights_bytes=weights,
        trained_bytes=learnt,
        seconds=0.0,
    )


def matrix_product_rate(device: str, *, rows: int, width: int) -> float:
    """Measure floating-point operations per second of a float32 matrix product.

    The shape is that of the widest product of an encoder's block, `rows` the tokens
    or patches in a batch. The fastest of a few products counts: what another program
    takes away now, it may not later.
    """
    left = torch.ones((rows, width), device=device)
    right = torch.ones((width, 4 * width), device=device)
    float((left @ right)[0, 0])  # warm; reading a number waits for the device
    fastest = float("inf")
    for _ in range(PRODUCTS):
        start = time.perf_counter()
        float((left @ right)[0, 0])
        fastest = min(fastest, time.perf_counter() - start)
    return 2 * rows * width * 4 * width / max(fastest, 1e-9)


def step_seconds(
    context: TrialContext, backbone: str, cores: int
) -> tuple[float, float]:
    """Measure the seconds of a pass on all cores, and with others on a core each.

    Passes of real examples: Python and small products gain less from more threads than
    a large product does.
    """
    reader, inputs = context.backbone(backbone), context.problem.inputs[:BATCH]
    batch, known = reader.collate(reader.preprocess(inputs)), torch.get_num_threads()

    def run(_: int) -> None:
        with torch.inference_mode():
            reader.features(batch)

    def seconds(threads: int, at_once: int) -> float:
        torch.set_num_threads(threads)
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(run, range(at_once)))  # warm
            start = time.perf_counter()
            list(pool.map(run, range(PASSES * at_once)))
        return (time.perf_counter() - start) / (PASSES * at_once)

    try:
        return seconds(cores, 1), seconds(1, cores)
    finally:
        torch.set_num_threads(known)


def first_trained(config: Config, depth: int) -> int:
    """Return the first block that a Config trains: -1 for all, `depth` for none."""
    return METHODS[config.text("method")].first_trained(config, depth)


def _tokens(characters: float) -> float:
    return 2.0 + TOKENS_PER_CHARACTER * characters if characters else 0.0
