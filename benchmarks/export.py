"""Export every embedded backbone under several methods, and compare with the source.

Each backbone that packages carry is fitted as a probe, a prototype, by LoRA and with
its last layers tuned, on 8 labels a class of trec6 or flowers5, and written to ONNX and
to torch.export. One model of each modality goes to every other runtime that is
installed. All are run in their own runtime, through the folder's own `predict.py`, on
test examples. The goal is a largest difference of 1e-4 in probabilities and logits.

int8 is compared on the whole test part: of texts it may lose 0.01 at a third of the
size; of images the table says what it costs. Latency is of the graph alone, one example
and one thread, as a ratio to PyTorch.

Examples:
    OMP_NUM_THREADS=1 python benchmarks/export.py --quick
    OMP_NUM_THREADS=1 python benchmarks/export.py --data ../shared/data
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

GOAL = 1e-4
LOSS_GOAL = 0.01
SIZE_GOAL = 1 / 3
COMPARED = 60
"""Test examples on which an export is compared; int8 is on all."""
FEW = 120
"""Test examples in a quick run, of each data set."""
DATA = {"text": "trec6", "image": "flowers5"}
STEPS = {"steps": 10, "batch_size": 8, "frozen_fraction": 0.8}
METHODS: dict[str, dict[str, Any]] = {
    "probe": {},
    "prototype": {},
    "lora": STEPS,
    "partial_freeze": STEPS,
}
FIRST = {"text": "minilm-l6", "image": "mobilenetv2-100"}
"""What goes to the other runtimes and to int8."""
OTHERS = ("openvino", "executorch", "litert")
ROUNDS = 21


def examples_of(modality: str, data: Path) -> tuple[Any, ...]:
    """Return texts or paths and labels to learn from and to test on, and names."""
    import pandas as pd

    home, shots = data / DATA[modality], []
    for part in ("train", "test"):
        if modality == "text":
            table = pd.read_csv(home / f"{part}.csv")
            rows = list(zip(table["text"], table["label"], strict=True))
        else:
            files = sorted((home / part).glob("*/*.jpg"))
            rows = [(path, path.parent.name) for path in files]
        shots.append(rows)
    names = tuple(sorted({label for _, label in shots[0]}))
    train = [row for name in names for row in [r for r in shots[0] if r[1] == name][:8]]
    pairs = []
    for rows in (train, shots[1]):
        inputs = tuple(example for example, _ in rows)
        pairs += [inputs, np.array([names.index(label) for _, label in rows])]
    return (*pairs, names)


def fit(backbone: Any, method: str, examples: tuple[Any, ...]) -> Any:
    """Return a predictor, saved and loaded as one in use is."""
    from fewshot_automl.adaptation.encodings import Encoder, Encodings
    from fewshot_automl.adaptation.method import Job, Profile
    from fewshot_automl.adaptation.table import METHODS as ROWS
    from fewshot_automl.features.store import FeatureStore
    from fewshot_automl.predictor import Predictor
    from fewshot_automl.tasks import Task
    from fewshot_automl.training.placement import choose_placement
    from fewshot_automl.trial.space import space_for

    inputs, labels, _, _, names = examples
    card = backbone.card
    task = Task(modality=card.modality, names=names)
    space = space_for(Profile.of(task, labels), [card])
    config = space.default(method=method, **METHODS[method])
    encoder = Encoder(backbone=backbone, store=FeatureStore(None))
    job = Job(task=task, config=config, seed=0, placement=choose_placement("cpu"))
    fitted = ROWS[method].fit(Encodings(inputs=inputs, encoder=encoder), labels, job)
    with tempfile.TemporaryDirectory() as home:
        made = Predictor(
            task=task, config=config, fitted=fitted, calibration={"temperature": 1.2}
        )
        return Predictor.load(made.save(Path(home) / "model"))


def latency_ratio(predictor: Any, model: Any, example: Any) -> float:
    """Return the time of a graph over that of PyTorch, in turns."""
    import torch

    from fewshot_automl.export.graph import Graph

    graph, inputs = Graph(predictor), model.prepare([example])
    tensors = [torch.from_numpy(value) for value in inputs.values()]
    times: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for place in range(2):
            start = time.perf_counter()
            if place:
                with torch.no_grad():
                    graph(*tensors)
            else:
                model._run(inputs)
            times[place].append(time.perf_counter() - start)
    return statistics.median(times[0][1:]) / statistics.median(times[1][1:])


def export_row(
    predictor: Any, name: str, examples: tuple[Any, ...], quantize: str | None
) -> dict[str, float]:
    """Return how an export compares with its source."""
    from fewshot_automl.export.reading import open_export
    from fewshot_automl.export.write import Evidence, write_export

    train, _, test, labels, _ = examples
    rows = np.random.default_rng(0).permutation(len(test))[:COMPARED]
    inputs = tuple(test[row] for row in rows)
    targets = labels[rows]
    if quantize:  # the ranges of images come from what it has learnt
        inputs, targets = (*train, *test), np.concatenate([examples[1], labels])
    with tempfile.TemporaryDirectory() as home:
        made = write_export(
            predictor,
            name,
            Path(home) / "out",
            Evidence(inputs=inputs, targets=targets),
            quantize=quantize,
            max_loss=1.0,
        )
        found = {
            "probabilities": made.proof.largest_difference,
            "logits": made.proof.largest_logit_difference,
            "agreement": made.proof.agreement,
            "megabytes": made.proof.megabytes[1],
            "share_of_size": made.proof.megabytes[1] / made.proof.megabytes[0],
        }
        model = open_export(made.folder)
        middle = sorted(test, key=lambda x: len(str(x)))[len(test) // 2]
        found["ratio"] = latency_ratio(predictor, model, middle)
        if quantize:
            before = predictor.outputs_of(test).argmax(1)
            after = model.outputs(test)[1].argmax(1)
            found["agreement"] = float((before == after).mean())
            found["accuracy"] = float((before == labels).mean())
            found["accuracy_int8"] = float((after == labels).mean())
        return found


def main() -> None:
    """Export, compare, print the table and one JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="two backbones, as a probe; the text one by LoRA too; few test examples",
    )
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="of trec6, flowers5"
    )
    parser.add_argument("--only", help="names of backbones, joined by commas")
    asked = parser.parse_args()
    if not (asked.data / DATA["text"]).is_dir():
        parser.error(f"--data must hold {' and '.join(DATA.values())}: {asked.data}")
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    warnings.simplefilter("ignore")
    from importlib.util import find_spec

    from fewshot_automl.backbones.load import load
    from fewshot_automl.backbones.weights import locate
    from fewshot_automl.backbones.zoo import Zoo
    from fewshot_automl.export.formats import FORMATS

    cards = [card for card in Zoo.shipped() if card.is_embedded]
    if asked.quick:
        cards = [card for card in cards if card.id in FIRST.values()]
    if asked.only:
        cards = [card for card in cards if card.id in asked.only.split(",")]
    cards.sort(key=lambda card: (card.modality, card.parameters))
    there = [n for n in OTHERS if all(map(find_spec, FORMATS[n].needs))]
    figures: dict[str, Any] = {}
    falls_short = []
    print(
        f"{'model':<36} {'format':<11} {'proba':>8} {'logits':>8} {'agree':>6} "
        f"{'MB':>6} {'ratio':>6}"
    )
    for card in cards:
        train, known, test, labels, names = examples_of(card.modality, asked.data)
        if asked.quick:
            kept = np.random.default_rng(0).permutation(len(test))[:FEW]
            test, labels = tuple(test[at] for at in kept), labels[kept]
        examples = train, known, test, labels, names
        backbone = load(card, locate(card))
        is_first = card.id == FIRST[card.modality]
        methods = ["probe"] if asked.quick else [*METHODS]
        if asked.quick and card.modality == "text":
            methods.append("lora")
        for method in methods:
            predictor = fit(backbone, method, examples)
            jobs: list[tuple[str, str | None]] = [("onnx", None), ("torch", None)]
            if is_first and method == "probe":
                jobs += [(name, None) for name in there] + [("onnx", "int8")]
            for name, quantize in jobs:
                label = f"{card.id} {method}"
                kind = quantize or name
                row = export_row(predictor, name, examples, quantize)
                figures[f"{label} {kind}"] = {
                    k: float(f"{v:.3g}") for k, v in row.items()
                }
                print(
                    f"{label:<36} {kind:<11} {row['probabilities']:>8.1e} "
                    f"{row['logits']:>8.1e} {row['agreement']:>6.3f} "
                    f"{row['megabytes']:>6.1f} {row['ratio']:>6.2f}",
                    flush=True,
                )
                if quantize is None:
                    if max(row["probabilities"], row["logits"]) > GOAL:
                        falls_short.append(f"{label} {kind}: {row['logits']:.1e}")
                    continue
                lost = row["accuracy"] - row["accuracy_int8"]
                scores = row["accuracy"], row["accuracy_int8"]
                share = row["share_of_size"]
                print(
                    f"  {len(test)} test examples: {scores[0]:.3f} -> {scores[1]:.3f}, "
                    f"{share:.2f} of the size"
                )
                is_large = row["share_of_size"] > SIZE_GOAL
                if card.modality == "text" and (lost > LOSS_GOAL or is_large):
                    falls_short.append(f"{label} int8: {lost:.3f} lost")
    report = {"benchmark": "export", "figures": figures, "falls_short": falls_short}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
