"""Trainings side by side against one at a time: trials a minute by number of slots.

For a text and an image backbone with embedded weights, LoRA and contrastive fits of
the last third on eight examples a class are trained 1, 4, 16 and 64 at a time on this
machine's GPU, or on its CPU if there is none. Every fit has its own learning rate,
decay, rank, seed and draw of examples, as the trials of a search have. Compared are
fits a minute with those that the ordinary path makes one by one.

Data: ../shared/data (trec6, flowers5). Weights: fewshot zoo get --embedded.

Examples:
    python benchmarks/speed_cohort.py --quick
    python benchmarks/speed_cohort.py --slots 1,4,16,64
    FEWSHOT_DEVICE=cpu python benchmarks/speed_cohort.py --slots 1,4
"""

import argparse
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from machine import matrix_rate, stamp
from shared_data import draw, read_split

from fewshot_automl.adaptation.encodings import Encoder, Encodings
from fewshot_automl.adaptation.method import Job, Profile
from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.backbones import weights
from fewshot_automl.backbones.load import load
from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.tasks import Task
from fewshot_automl.training.placement import choose_placement
from fewshot_automl.trial.design import space_for

ROOT = Path(__file__).resolve().parent.parent
CASES = {"minilm-l6": "trec6", "efficientnet-lite0": "flowers5"}
"""Backbone and the dataset whose draw it is trained on."""
METHOD_NAMES = ("lora", "contrastive")
SHOTS = 8
FOLDS = 4
GPU_GOAL = 10.0
CPU_GOAL = 1.0
CPU_NOISE = 0.05


@dataclass(frozen=True)
class Row:
    """One number of slots for one backbone and method."""

    backbone: str
    method: str
    device: str
    slots: int
    """0 is the ordinary path, one fit after the other."""
    fits: int
    steps: int
    seconds: float
    """Wall time of all fits, the best of the rounds."""
    trained_flops_share: float
    """Arithmetic of the trained blocks a second, over the matrix-product rate."""

    @property
    def fits_a_minute(self) -> float:
        """Return the speed."""
        return 60.0 * self.fits / self.seconds


def problem(
    backbone: str, data: Path, device: str
) -> tuple[Encodings, np.ndarray, Task]:
    """Return the drawn examples as a backbone sees them, with labels and task."""
    drawn = draw(read_split(data / CASES[backbone], "train"), SHOTS, seed=0)
    names = tuple(sorted(set(drawn.labels)))
    card = Zoo.shipped()[backbone]
    task = Task(
        modality=card.modality,
        names=names,
    )
    encoder = Encoder(
        backbone=load(card, weights.locate(card)).to(device),
        store=FeatureStore(None),
        device=device,
    )
    labels = np.array([names.index(label) for label in drawn.labels])
    return Encodings(inputs=tuple(drawn.inputs), encoder=encoder), labels, task


def jobs_of(
    method: str, backbone: str, task: Task, labels: np.ndarray, count: int, steps: int
) -> list[Job]:
    """Return fits that differ as the trials of a search do, all of `steps` steps."""
    counts = tuple(int(n) for n in np.bincount(labels))
    profile = Profile(task=task, class_counts=counts)
    space = space_for(profile, [Zoo.shipped()[backbone]], [method])
    chance = np.random.default_rng(0)
    jobs = []
    for seed in range(count):
        values = {
            "frozen_fraction": 2 / 3,
            "steps": steps,
            "weight_decay": float(10 ** chance.uniform(-3, -1)),
            "rank": int(chance.choice([4, 8, 16])),
            "lora_learning_rate": float(10 ** chance.uniform(-3.5, -2.5)),
            "learning_rate": float(10 ** chance.uniform(-4.3, -3.3)),
        }
        config = space.default(**{k: v for k, v in values.items() if k in space})
        jobs.append(
            Job(task=task, config=config, seed=seed, placement=choose_placement())
        )
    return jobs


def chosen_of(labels: np.ndarray, count: int) -> list[np.ndarray]:
    """Return three quarters of the examples for each fit, as folds do."""
    order = np.random.default_rng(0).permutation(len(labels)) % FOLDS
    return [np.flatnonzero(order != fit % FOLDS) for fit in range(count)]


def seconds_of(run: object, device: str) -> float:
    """Return the wall time of a call, the device's own work included."""
    start = time.perf_counter()
    run()  # type: ignore[operator]
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def trained_flops(encodings: Encodings, steps: int, batch: int, method: str) -> float:
    """Return the arithmetic of a fit's trained blocks: forward, and backward.

    The backward pass of weights that are trained costs twice the forward pass; that
    of frozen weights under LoRA about once.
    """
    card = encodings.backbone.card
    tokens = 1.0
    if card.modality == "text":
        rows = encodings.rows()
        tokens = float(np.mean([len(row["input_ids"]) for row in rows])) / card.flops_at
    passes = 2.0 if "lora" in method else 3.0
    return card.flops * tokens / 3 * passes * steps * batch


def measure(
    backbone: str, method: str, slots: list[int], args: argparse.Namespace
) -> list[Row]:
    """Time the ordinary path and every number of slots, in turns."""
    placement = choose_placement()
    encodings, labels, task = problem(backbone, args.data, placement.device)
    row = METHODS[method]
    count = max(slots)
    jobs = jobs_of(method, backbone, task, labels, count, args.steps)
    chosen = chosen_of(labels, count)
    few = min(count, args.alone)
    batch = min(int(jobs[0].config["batch_size"]), len(chosen[0]))

    def alone() -> None:
        for job, places in zip(jobs[:few], chosen[:few], strict=True):
            row.fit(encodings.take(places), labels[places], job)

    def side_by_side(width: int) -> None:
        for start in range(0, width * max(1, few // width), width):
            part = slice(start, start + width)
            row.fit_together(encodings, labels, chosen[part], jobs[part])

    def fits(width: int) -> int:
        return few if width == 0 else width * max(1, few // width)

    alone()  # loads, tunes and warms what the first call pays for
    best = {}
    for _ in range(args.rounds):
        for width in (0, *slots):
            run = alone if width == 0 else lambda width=width: side_by_side(width)
            seconds = seconds_of(run, placement.device)
            best[width] = min(seconds, best.get(width, seconds))
    kind = "bfloat16" if placement.mixed_precision == "bf16" else "float32"
    rate = matrix_rate(2048, 2048, 2048, kind, device=placement.device)
    work = trained_flops(encodings, args.steps, batch, method)
    return [
        Row(
            backbone=backbone,
            method=method,
            device=placement.device,
            slots=width,
            fits=fits(width),
            steps=args.steps,
            seconds=seconds,
            trained_flops_share=work * fits(width) / seconds / rate,
        )
        for width, seconds in best.items()
    ]


def table(rows: list[Row]) -> str:
    """Return one line a row, with the speed over that of the ordinary path."""
    head = (
        f"{'backbone':<20} {'method':<12} {'device':<7} {'slots':>5} {'fits/min':>9} "
        f"{'ratio':>6} {'of matrix rate':>14}"
    )
    lines = [head, "-" * len(head)]
    for row in rows:
        slots = "alone" if row.slots == 0 else str(row.slots)
        lines.append(
            f"{row.backbone:<20} {row.method:<12} {row.device:<7} {slots:>5} "
            f"{row.fits_a_minute:>9.1f} {ratio(row, rows):>6.2f} "
            f"{row.trained_flops_share:>14.3f}"
        )
    return "\n".join(lines)


def ratio(row: Row, rows: list[Row]) -> float:
    """Return a row's speed over that of the same fits one by one."""
    base = next(
        other
        for other in rows
        if (other.backbone, other.method, other.slots) == (row.backbone, row.method, 0)
    )
    return row.fits_a_minute / base.fits_a_minute


def judge(rows: list[Row]) -> list[str]:
    """Return the goals that were not reached.

    On a GPU the best number of slots must reach ten times. On a CPU what a study does
    there, one at a time, is a slot count too, so only slots that a study would choose
    could be slower; the ratio of the best is shown.
    """
    short = []
    for backbone, method in dict.fromkeys((r.backbone, r.method) for r in rows):
        own = [r for r in rows if (r.backbone, r.method) == (backbone, method)]
        on_gpu = own[0].device.startswith("cuda")
        best = max(ratio(row, rows) for row in own)
        goal = GPU_GOAL if on_gpu else CPU_GOAL - CPU_NOISE
        if best < goal:
            short.append(f"{backbone} {method}: {best:.2f} times, wanted {goal}")
    if not rows[0].device.startswith("cuda"):
        short.append("no GPU was at hand: the goal of 10 times was not measured")
    return short


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--backbones", default=",".join(CASES))
    parser.add_argument("--methods", default=",".join(METHOD_NAMES))
    parser.add_argument("--slots", default="1,4,16,64")
    parser.add_argument("--steps", type=int, default=40, help="of every fit")
    parser.add_argument("--alone", type=int, default=8, help="fits made one by one")
    parser.add_argument("--rounds", type=int, default=2, help="the best one counts")
    parser.add_argument(
        "--results", type=Path, default=ROOT / "benchmarks/results/speed_cohort.jsonl"
    )
    parser.add_argument(
        "--quick", action="store_true", help="MiniLM only, slots 1 and 4, 10 steps"
    )
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.backbones, arguments.slots = "minilm-l6", "1,4"
        arguments.steps, arguments.alone = 10, 4
        arguments.results = Path(tempfile.mkdtemp()) / "quick.jsonl"
    return arguments


def main() -> None:
    """Measure, print the table, keep the lines, end with one JSON line."""
    arguments = parse_arguments()
    if not arguments.data.is_dir():
        raise SystemExit(
            f"--data must be the folder of datasets, got {arguments.data}."
        )
    slots = [int(width) for width in arguments.slots.split(",")]
    rows: list[Row] = []
    for backbone in arguments.backbones.split(","):
        for method in arguments.methods.split(","):
            rows += measure(backbone, method, slots, arguments)
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    with arguments.results.open("a", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps({**asdict(row), **stamp()}) + "\n")
    print(table(rows))
    figures = {
        f"{row.backbone} {row.method} {row.slots}": round(ratio(row, rows), 3)
        for row in rows
        if row.slots
    }
    line = {"benchmark": "speed_cohort", "figures": figures, "falls_short": judge(rows)}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
