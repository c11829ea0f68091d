"""Measure what the store of frozen activations saves.

For a text and an image backbone: embedding 200 examples in batches of like length
against the order given; filling the store, reading it again, and reading it in a new
process; and, cut after a third, two thirds and all of the blocks, an epoch and a whole
trial (4 folds) of training what lies after the cut, once from stored activations and
once with the frozen part run in every step. Both trainings are one plain loop that
differs in nothing else. Features from stored activations are compared with features
of the whole encoder.

Examples:
    python benchmarks/speed_stem.py --quick
    python benchmarks/speed_stem.py --backbones minilm-l6,efficientnet-lite0
"""

import argparse
import json
import multiprocessing
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import matrix_rate, stamp
from parts.spent import Spent
from shared_data import ROOT, draw, read_split
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fewshot_automl.adaptation.encodings import Encoder, Encodings
from fewshot_automl.backbones import weights
from fewshot_automl.backbones.backbone import Backbone, Tensors
from fewshot_automl.backbones.load import load
from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.evaluation.folds import choose_folds
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.modalities import Input
from fewshot_automl.training.batches import shuffled
from fewshot_automl.training.placement import choose_placement

DATASETS = {"text": "subj", "image": "hymenoptera"}
CUTS = (1 / 3, 2 / 3, 1.0)
SHOTS = 8
FOLDS = 4
BATCH = 32
TOLERANCE = 1e-5
"""Largest difference between two ways to the same features, over their largest."""

Row = dict[str, Any]


def make_encodings(
    name: str, inputs: tuple[Input, ...], store: FeatureStore, backbone: Backbone | None
) -> Encodings:
    """Return examples as a backbone sees them; the backbone is loaded if not given."""
    device = choose_placement().device
    if backbone is None:
        card = Zoo.shipped()[name]
        backbone = load(card, weights.locate(card)).to(device)
    encoder = Encoder(backbone=backbone, store=store, device=device)
    return Encodings(inputs=inputs, encoder=encoder)


def compare_orders(
    backbone: Backbone, inputs: tuple[Input, ...]
) -> tuple[list[Row], np.ndarray]:
    """Embed in the order given and by length; count the padding.

    Returns:
        What was measured, and the features as computed in the order given.
    """
    rows = backbone.preprocess(inputs)
    lengths = [row_length(row) for row in rows]
    found: list[Row] = []
    wanted = torch.empty(0)
    for name, order in (
        ("as given", list(range(len(rows)))),
        ("by length", np.argsort(lengths, kind="stable").tolist()),
    ):
        parts = [order[at : at + BATCH] for at in range(0, len(order), BATCH)]
        batches = [backbone.collate([rows[i] for i in part]) for part in parts]
        padded = sum(len(p) * max(lengths[i] for i in p) for p in parts)
        spent, out = best_of(3, lambda batches=batches: features(backbone, batches))
        with FlopCounterMode(display=False) as counter:
            features(backbone, batches)
        values = torch.empty_like(out, device="cpu")
        values[order] = out.cpu()
        wanted = values if not found else wanted
        found.append(
            {
                "part": "order",
                "name": name,
                "waste": 1 - sum(lengths) / padded,
                "cpu": spent.cpu,
                "wall": spent.wall,
                "flops_rate": counter.get_total_flops() / spent.wall,
                "difference": difference(values, wanted),
            }
        )
    return found, wanted.float().numpy()


def features(backbone: Backbone, batches: list[Tensors]) -> Tensor:
    """Return the features of batches, one after another."""
    with torch.no_grad():
        return torch.cat([backbone.features(batch) for batch in batches])


def row_length(row: Tensors) -> int:
    """Return the tokens of a text; images all count the same."""
    return len(row["input_ids"]) if "input_ids" in row else 1


def best_of(times: int, run: Callable[[], Any]) -> tuple[Spent, Any]:
    """Return the least time of several runs, by the processor, and the result."""
    best, result = None, None
    for _ in range(times):
        with Spent() as spent:
            result = run()
        if best is None or spent.cpu < best.cpu:
            best = spent
    assert best is not None
    return best, result


def difference(found: Tensor, wanted: Tensor) -> float:
    """Return the largest difference over the largest value."""
    return float((found - wanted).abs().max() / wanted.abs().max())


def measure_store(
    name: str,
    backbone: Backbone,
    inputs: tuple[Input, ...],
    whole: np.ndarray,
    folder: Path,
) -> list[Row]:
    """Fill a store with activations two thirds in, and read it in three ways."""
    cut = round(CUTS[1] * backbone.depth)
    store = FeatureStore(folder)
    encodings = make_encodings(name, inputs, store, backbone)
    with Spent() as cold:
        encodings.activations(cut)
    warm, _ = best_of(3, lambda: encodings.activations(cut))
    reopened = make_encodings(name, inputs, FeatureStore(folder), backbone)
    with Spent() as opened:
        stored = reopened.activations(cut)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=read_elsewhere, args=(name, inputs, folder, queue))
    child.start()
    elsewhere, misses = queue.get()
    child.join()
    if misses:
        raise SystemExit(f"A new process must find all rows, {misses} were missing.")
    about = {
        "bytes": store.size_bytes(),
        "difference": max_difference(backbone, stored, cut, whole),
    }
    return [
        {"part": "store", "name": what, "cpu": s.cpu, "wall": s.wall, **about}
        for what, s in (
            ("cold: compute, write", cold),
            ("warm: same process", warm),
            ("opened anew", opened),
            ("another process", elsewhere),
        )
    ]


def read_elsewhere(
    name: str, inputs: tuple[Input, ...], folder: Path, queue: Any
) -> None:
    """Read the store in a process that has not filled it; loading is not timed."""
    store = FeatureStore(folder)
    encodings = make_encodings(name, inputs, store, None)
    cut = round(CUTS[1] * encodings.backbone.depth)
    with Spent() as spent:
        encodings.activations(cut)
    queue.put((spent, store.stats().misses))


class Tail(nn.Module):
    """What is trained after a cut, under a linear head."""

    def __init__(self, base: Backbone, cut: int, classes: int) -> None:
        super().__init__()
        self._fork = base.fork(cut)
        self._cut = cut
        self.encoder = self._fork.module
        for parameter in self._fork.tail_parameters(cut):
            parameter.requires_grad_(parameter.is_floating_point())
        self.head = nn.Linear(base.width, classes)
        self.to(next(base.module.parameters()).device)

    def forward(self, batch: Tensors, is_cached: bool) -> Tensor:
        """Return logits, from activations or from inputs."""
        if not is_cached:
            with torch.no_grad():
                batch = self._fork.stem(batch, self._cut)
        logits: Tensor = self.head(self._fork.tail(batch, self._cut))
        return logits


def train(
    base: Backbone,
    cut: int,
    rows: list[Tensors],
    labels: np.ndarray,
    steps: int,
    *,
    is_cached: bool,
) -> None:
    """Train a tail; the frozen part runs in every step unless rows are cached."""
    torch.manual_seed(0)
    tail = Tail(base, cut, int(labels.max()) + 1).train()
    device = next(tail.head.parameters()).device
    truth = torch.from_numpy(labels).to(device)
    trained = [p for p in tail.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    batches = shuffled(len(rows), 0)(BATCH, 0)
    for _ in range(steps):
        chosen = next(batches)
        batch = base.collate([rows[i] for i in chosen])
        batch = {key: value.to(device) for key, value in batch.items()}
        loss = nn.functional.cross_entropy(tail(batch, is_cached), truth[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def compare_cuts(
    name: str,
    backbone: Backbone,
    inputs: tuple[Input, ...],
    labels: np.ndarray,
    steps: int,
    work: Path,
) -> list[Row]:
    """Train an epoch and a trial after each cut, from the store and without it."""
    folds = choose_folds(labels, seed=0, max_folds=FOLDS, max_repeats=1).first
    raw = backbone.preprocess(inputs)
    whole = make_encodings(name, inputs, FeatureStore(None), backbone).pooled()
    epoch = -(-len(inputs) // BATCH)
    found = []
    for share in CUTS:
        cut = round(share * backbone.depth)
        store = FeatureStore(work / f"cut-{cut}")
        encodings = make_encodings(name, inputs, store, backbone)
        with Spent() as filling:
            stored = encodings.activations(cut)

        def trial(rows: list[Tensors], cut: int, is_cached: bool) -> None:
            for fold in folds:
                part = [rows[i] for i in fold.train]
                train(
                    *(backbone, cut, part, labels[fold.train], steps),
                    is_cached=is_cached,
                )

        row: Row = {
            "part": "cut",
            "cut": cut,
            "blocks": backbone.depth,
            "filling_cpu": filling.cpu,
            "filling_wall": filling.wall,
            "difference": max_difference(backbone, stored, cut, whole),
        }
        train(backbone, cut, stored, labels, 1, is_cached=True)
        for is_cached, rows in ((True, stored), (False, raw)):
            side = "cached" if is_cached else "uncached"
            once, _ = best_of(
                2,
                lambda rows=rows, cut=cut, is_cached=is_cached: train(
                    backbone, cut, rows, labels, epoch, is_cached=is_cached
                ),
            )
            with Spent() as spent:
                trial(rows, cut, is_cached)
            row |= {
                f"{side}_epoch_cpu": once.cpu,
                f"{side}_epoch_wall": once.wall,
                f"{side}_trial_cpu": spent.cpu,
                f"{side}_trial_wall": spent.wall,
            }
        found.append(row)
    return found


def max_difference(
    backbone: Backbone, stored: list[Tensors], cut: int, whole: np.ndarray
) -> float:
    """Compare features from stored activations, batched anew, with the encoder's."""
    device = next(backbone.module.parameters()).device
    with torch.no_grad():
        out = [
            backbone.tail(
                {
                    key: value.to(device)
                    for key, value in backbone.collate(stored[at : at + BATCH]).items()
                },
                cut,
            ).cpu()
            for at in range(0, len(stored), BATCH)
        ]
    return difference(torch.cat(out).float(), torch.from_numpy(whole))


def take_examples(
    data: Path, modality: str, count: int
) -> tuple[tuple[Input, ...], tuple[Input, ...], np.ndarray]:
    """Return examples to embed, and fewer with labels to train on."""
    split = read_split(data / DATASETS[modality], "train")
    order = np.random.default_rng(0).permutation(len(split.labels))[:count]
    drawn = draw(split, SHOTS, 0)
    names = sorted(set(drawn.labels))
    labels = np.array([names.index(label) for label in drawn.labels])
    many = tuple(split.inputs[i] for i in order)
    return many, tuple(drawn.inputs), labels


def print_rows(name: str, rows: list[Row], rate: float) -> None:
    """Print the tables of one backbone."""
    print(f"\n{name}")
    for row in (row for row in rows if row["part"] == "order"):
        print(
            f"  embed {row['name']:<20} cpu {row['cpu']:8.3f} s  wall "
            f"{row['wall']:8.3f} s  padding {row['waste']:4.0%}  "
            f"{row['flops_rate'] / 1e9:6.1f} GFLOP/s = {row['flops_rate'] / rate:4.2f} "
            f"of the matrix rate  difference {row['difference']:.1e}"
        )
    for row in (row for row in rows if row["part"] == "store"):
        print(
            f"  store {row['name']:<20} cpu {1e3 * row['cpu']:8.1f} ms wall "
            f"{1e3 * row['wall']:8.1f} ms {row['bytes'] / 1e6:6.1f} MB  features from "
            f"it differ by {row['difference']:.1e}"
        )
    print(
        "   cut    epoch cached  uncached  ratio    trial cached  +filling  uncached  "
        "ratio  +filling    max diff.   (cpu seconds)"
    )
    for row in (row for row in rows if row["part"] == "cut"):
        filled = row["cached_trial_cpu"] + row["filling_cpu"]
        print(
            f"  {row['cut']:>2}/{row['blocks']:<2} {row['cached_epoch_cpu']:>13.3f} "
            f"{row['uncached_epoch_cpu']:>9.3f} {ratio(row, 'epoch'):>6.1f} "
            f"{row['cached_trial_cpu']:>15.2f} {filled:>9.2f} "
            f"{row['uncached_trial_cpu']:>9.2f} {ratio(row, 'trial'):>6.1f} "
            f"{row['uncached_trial_cpu'] / filled:>9.1f} {row['difference']:>12.1e}"
        )


def ratio(row: Row, what: str, clock: str = "cpu") -> float:
    """Return uncached over cached time."""
    found: float = row[f"uncached_{what}_{clock}"] / row[f"cached_{what}_{clock}"]
    return found


def judge(name: str, rows: list[Row]) -> list[str]:
    """Return what must hold and does not."""
    short = []
    for row in (row for row in rows if row["part"] == "cut"):
        where = f"{name} cut {row['cut']}/{row['blocks']}"
        if row["difference"] > TOLERANCE:
            short.append(f"{where}: difference {row['difference']:.1e} > {TOLERANCE}")
        if ratio(row, "trial") < 1:
            short.append(f"{where}: cached trial {ratio(row, 'trial'):.2f}x")
    short.extend(
        f"{name} {row['name']}: difference {row['difference']:.1e} > {TOLERANCE}"
        for row in rows
        if row["part"] != "cut" and row["difference"] > TOLERANCE
    )
    orders = [row for row in rows if row["part"] == "order"]
    if orders and orders[1]["waste"] > 0 and orders[1]["cpu"] > orders[0]["cpu"]:
        short.append(f"{name}: embedding by length is slower than as given")
    return short


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--backbones", default="minilm-l6,mobilenetv2-100")
    parser.add_argument("--examples", type=int, default=200, help="to embed")
    parser.add_argument("--steps", type=int, default=40, help="of a fold's training")
    parser.add_argument(
        "--results", type=Path, default=ROOT / "benchmarks/results/speed_stem.jsonl"
    )
    parser.add_argument(
        "--quick", action="store_true", help="48 examples to embed, 4 steps a fold"
    )
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.examples, arguments.steps = 48, 4
        arguments.results = Path(tempfile.mkdtemp()) / "quick.jsonl"
    return arguments


def main() -> None:
    """Measure each backbone, print tables, end with one JSON line."""
    arguments = parse_arguments()
    if not arguments.data.is_dir():
        raise SystemExit(
            f"--data must be the folder of datasets, got {arguments.data}."
        )
    zoo, device = Zoo.shipped(), choose_placement().device
    rate = matrix_rate(512, 384, 1536, device=device)
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    figures: dict[str, float] = {"matrix_gflops": round(rate / 1e9, 1)}
    short: list[str] = []
    for name in arguments.backbones.split(","):
        card = zoo[name]
        backbone = load(card, weights.locate(card)).to(device)
        many, few, labels = take_examples(
            arguments.data, card.modality, arguments.examples
        )
        with tempfile.TemporaryDirectory(prefix="fewshot-benchmark-") as folder:
            work = Path(folder)
            orders, whole = compare_orders(backbone, many)
            rows = [
                *orders,
                *measure_store(name, backbone, many, whole, work / "store"),
                *compare_cuts(name, backbone, few, labels, arguments.steps, work),
            ]
        print_rows(name, rows, rate)
        with arguments.results.open("a", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps({"backbone": name, **row, **stamp()}) + "\n")
        for row in (row for row in rows if row["part"] == "cut"):
            place = f"{name}_cut_{row['cut']}_of_{row['blocks']}"
            for what in ("epoch", "trial"):
                figures[f"{place}_{what}_ratio"] = round(ratio(row, what), 2)
        short.extend(judge(name, rows))
    line = {"benchmark": "speed_stem", "figures": figures, "falls_short": short}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
