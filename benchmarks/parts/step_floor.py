"""How long a training step takes, and how long its matrix products alone would.

A short and a long training of one Config differ by some steps and nothing else, so
their difference in processor time is those steps'. Which matrix products were run in
them is recorded below autograd, product by product; then the very same products, in
the same order and with the same layouts, are run with nothing between them.
"""

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from machine import matrix_rate
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fewshot_automl.adaptation.method import Job
from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.backbones.backbone import Backbone
from fewshot_automl.space import Config
from fewshot_automl.training.batches import balanced, shuffled
from fewshot_automl.trial.workbench import Workbench

SHORT, LONG = 10, 40
REPEATS = 3
ATTENTION = "scaled_dot_product"


@dataclass(frozen=True)
class Product:
    """One matrix product: ``[batch, m, k] @ [batch, k, n]``."""

    batch: int
    m: int
    k: int
    n: int
    is_left_transposed: bool = False
    is_right_transposed: bool = False

    @property
    def flops(self) -> int:
        """Return its operations, 2 a multiply-add."""
        return 2 * self.batch * self.m * self.k * self.n


@dataclass(frozen=True)
class StepCost:
    """What a step of a method costs on one thread."""

    method: str
    step: float
    """Processor seconds."""
    floor: float
    """Of its products alone."""
    flops: float
    """In the products that were run."""
    needed: float
    """In those that the method needs, by hand, with padding to a batch's longest."""
    unpadded: float
    """The same without padding."""
    shape: tuple[int, int, int]
    """Of the products that most of the FLOPs are in."""
    of_rate: float
    """FLOP/s of the step over those of that one product."""

    @property
    def ratio(self) -> float:
        """Return the floor over the step, counting only what is needed."""
        return self.floor / self.step * min(1.0, self.needed / self.flops)


class Recorder(TorchDispatchMode):
    """Notes every matrix product that is run inside of it."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[Product] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Note the operator if it is a product, and run it."""
        name = func._overloadpacket.__name__
        if name in ("mm", "bmm"):
            self._note(args[0], args[1])
        elif name in ("addmm", "baddbmm"):
            self._note(args[1], args[2])
        elif ATTENTION in name:
            self._note_attention(args, is_backward="backward" in name)
        return func(*args, **(kwargs or {}))

    def _note(self, left: Tensor, right: Tensor) -> None:
        *batch, m, k = left.shape
        self.products.append(
            Product(
                batch=int(np.prod(batch)),
                m=m,
                k=k,
                n=right.shape[-1],
                is_left_transposed=left.stride(-1) != 1,
                is_right_transposed=right.stride(-1) != 1,
            )
        )

    def _note_attention(self, args: tuple[Tensor, ...], *, is_backward: bool) -> None:
        query, key = (args[1], args[2]) if is_backward else (args[0], args[1])
        *batch, m, width = query.shape
        count, n = int(np.prod(batch)), key.shape[-2]
        scores = Product(count, m, width, n, is_right_transposed=True)
        mixed = Product(count, m, n, width)
        # Backwards: of values and probabilities, of queries and keys.
        self.products.extend([scores, mixed] * (2 if is_backward else 1))


def measure_steps(bench: Workbench, config: Config) -> StepCost:
    """Measure the steps of a Config, fitted to all of a workbench's examples."""
    fit(bench, config, SHORT)
    products = difference(recorded(bench, config, LONG), recorded(bench, config, SHORT))
    play = Playback(products)
    play()
    steps, floors = [], []
    for _ in range(REPEATS):
        spent = [timed(lambda s=s: fit(bench, config, s)) for s in (SHORT, LONG)]
        steps.append((spent[1] - spent[0]) / (LONG - SHORT))
        floors.append(timed(play) / (LONG - SHORT))
    flops = sum(product.flops for product in products) / (LONG - SHORT)
    work: Counter[tuple[int, int, int]] = Counter()
    for product in products:
        if product.batch == 1:
            work[product.m, product.k, product.n] += product.flops
    shape = work.most_common(1)[0][0]
    step = float(np.median(steps))
    needed, unpadded = needed_flops(bench, config)
    return StepCost(
        method=config.text("method"),
        step=step,
        floor=float(np.median(floors)),
        flops=flops,
        needed=needed,
        unpadded=unpadded,
        shape=shape,
        of_rate=flops / step / matrix_rate(*shape),
    )


def fit(bench: Workbench, config: Config, steps: int) -> None:
    """Train once with that many steps; the activations are read from the store."""
    job = Job(
        task=bench.problem.task,
        config=Config.of({**config.to_json(), "steps": steps}),
        seed=bench.seed,
        placement=bench.placement,
    )
    encodings = bench.encodings(config)
    METHODS[config.text("method")].fit(encodings, bench.problem.labels, job)


def recorded(bench: Workbench, config: Config, steps: int) -> list[Product]:
    """Return the products of a fit, in order."""
    with Recorder() as recorder:
        fit(bench, config, steps)
    return recorder.products


def difference(longer: list[Product], shorter: list[Product]) -> list[Product]:
    """Return what is in the longer list and not in the shorter, in order."""
    surplus = Counter(longer)
    surplus.subtract(shorter)
    kept = []
    for product in reversed(longer):
        if surplus[product] > 0:
            surplus[product] -= 1
            kept.append(product)
    return kept[::-1]


def timed(run: Any) -> float:
    """Return the processor seconds of a call."""
    start = time.process_time()
    run()
    return time.process_time() - start


class Playback:
    """Runs products one after another, with operands made beforehand."""

    def __init__(self, products: list[Product]) -> None:
        made = {product: _operands(product) for product in set(products)}
        self._calls = [made[product] for product in products]

    def __call__(self) -> None:
        """Run them all."""
        for left, right, out in self._calls:
            if left.ndim == 2:
                torch.mm(left, right, out=out)
            else:
                torch.bmm(left, right, out=out)


def _operands(product: Product) -> tuple[Tensor, Tensor, Tensor]:
    batch, m, k, n = product.batch, product.m, product.k, product.n

    def matrix(rows: int, columns: int, is_transposed: bool) -> Tensor:
        shape = (columns, rows) if is_transposed else (rows, columns)
        made = torch.randn(shape if batch == 1 else (batch, *shape))
        return made.transpose(-1, -2) if is_transposed else made

    return (
        matrix(m, k, product.is_left_transposed),
        matrix(k, n, product.is_right_transposed),
        matrix(m, n, False),
    )


def needed_flops(bench: Workbench, config: Config) -> tuple[float, float]:
    """Return the FLOPs a step needs on average, with padding and without.

    Counted by hand for BERT blocks: forwards all of them; backwards the gradients of
    weights that are trained, and of inputs only where something trained lies below.
    """
    labels, size = bench.problem.labels, int(config["batch_size"])
    backbone = bench.backbone(config.text("backbone"))
    lengths = np.array(
        [len(row["input_ids"]) for row in backbone.preprocess(bench.problem.inputs)]
    )
    is_contrastive = config["method"] == "contrastive"
    batches = (
        balanced(labels, bench.seed)(size, 0)
        if is_contrastive
        else shuffled(len(labels), bench.seed)(size, 0)
    )
    drawn = [lengths[next(batches)] for _ in range(LONG)][SHORT:]
    classes = 0 if is_contrastive else bench.problem.task.classes
    padded = [np.full(len(batch), batch.max()) for batch in drawn]
    with_padding, without = (
        float(np.mean([_batch_flops(config, backbone, b, classes) for b in some]))
        for some in (padded, drawn)
    )
    return with_padding, without


def _batch_flops(
    config: Config, backbone: Backbone, lengths: np.ndarray, classes: int
) -> float:
    values = backbone.card.config
    width, inner = int(values["hidden_size"]), int(values["intermediate_size"])
    rank = int(config.get("rank", 0))
    depth = backbone.depth
    start = min(round(config.number("frozen_fraction") * depth), depth - 1)
    tokens, rows = float(lengths.sum()), len(lengths)
    square = 2.0 * tokens * width * width
    wide = 2.0 * tokens * width * inner
    attention = 2.0 * float((lengths**2).sum()) * width
    low = 2.0 * tokens * width * rank  # one of the two small matrices of LoRA
    total = 3 * 2.0 * rows * width * classes
    if not classes:
        total += 3 * 2.0 * rows * rows * width
    for block in range(start, depth):
        is_first = block == start
        total += 4 * square + 2 * attention + 2 * wide
        # Inputs of what follows the attention; of the queries and so on if not first.
        total += square + 2 * wide + 4 * attention - is_first * attention * bool(rank)
        total += 0 if is_first else 3 * square
        if rank:
            total += 2 * 2 * low + 2 * 3 * low + (0 if is_first else 2 * low)
        else:
            total += 4 * square + 2 * wide
    return total
